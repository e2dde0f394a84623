"""A scene, and models that find its colours."""

import pytest
from colour_model import colour_inferencer

from mmmaskclip.datasets.scenes.generator import draw_image, sample_scene
from mmmaskclip.demo.photos import Photo
from mmmaskclip.demo.seen_models import SeenModel


@pytest.fixture(scope='session')
def scene():
    """A scene with a red circle, a yellow square and a green triangle."""
    return sample_scene('example/1', (2, 3))


@pytest.fixture(scope='session')
def photo(scene):
    return Photo('scene', draw_image(scene, 320))


@pytest.fixture(scope='session')
def model():
    return SeenModel('colours', colour_inferencer())
