"""Harder scenes: small objects among distractors, with masks and captions of the objects alone."""

from random import Random

import numpy as np
import pytest

from mmmaskclip.datasets.scenes.generator import CLASSES, COLOURS, draw_mask, object_mask
from mmmaskclip.datasets.scenes.harder import TEXTURES, HardScene, _lay, draw_hard_image, sample_hard_scene
from mmmaskclip.datasets.scenes.writer import SceneSplit, generate

SCENES = [sample_hard_scene(f'{index}') for index in range(60)]


def test_the_same_seed_gives_the_same_picture():
    assert sample_hard_scene('7') == SCENES[7]
    images = [np.asarray(draw_hard_image(sample_hard_scene('7'), 48)) for _ in range(2)]
    assert (images[0] == images[1]).all()


def test_there_are_more_objects_sizes_textures_and_distractors():
    counts = [len(scene.objects) for scene in SCENES]
    assert max(counts) >= 7
    assert np.mean(counts) > 4
    radii = [thing.radius for scene in SCENES for thing in scene.objects]
    assert min(radii) < 0.07
    assert max(radii) > 0.2
    assert {texture for scene in SCENES for texture in scene.textures} == set(TEXTURES)
    assert {len(scene.distractors) for scene in SCENES} == {0, 1, 2, 3}
    assert any(scene.lines for scene in SCENES)


def test_nothing_overlaps():
    for scene in SCENES[:20]:
        covers = sum(object_mask(thing, 64).astype(int) for thing in [*scene.objects, *scene.distractors])
        assert covers.max() <= 1


def test_objects_are_where_their_masks_are_and_distractors_are_in_none():
    scene = next(scene for scene in SCENES if len(scene.distractors) == 3)
    image = np.asarray(draw_hard_image(scene, 128)).astype(float)
    mask = draw_mask(scene.objects, 128)
    for thing in scene.objects:
        inside = object_mask(thing, 128)
        assert (mask[inside] == thing.label).all()
        colour, expected = image[inside].mean(0), np.array(COLOURS[thing.colour], dtype=float)
        chroma = [value - value.mean() for value in (colour, expected)]
        assert np.dot(*chroma) / (np.linalg.norm(chroma[0]) * np.linalg.norm(chroma[1])) > 0.9, thing
    for thing in scene.distractors:
        inside = object_mask(thing, 128)
        assert (mask[inside] == 255).all()
        assert np.ptp(image[inside].mean(0)) < 25


@pytest.mark.parametrize('index', range(5))
def test_a_square_around_an_object_gives_the_pixels_of_the_whole_canvas(index):
    thing = SCENES[index].objects[0]
    pixels = np.zeros((96, 96, 3), dtype=np.float32)
    _lay(pixels, thing, np.full(3, 200, np.float32), 'plain', Random(0))
    drawn = pixels[..., 0] >= 100
    assert (drawn != object_mask(thing, 96)).mean() < 0.004


def test_a_class_and_few_words_for_many_objects():
    samples = list(generate('single', SceneSplit(41, (1, 1), harder=True), 0, 41, 32, 0, 50))
    assert [sample.label for sample in samples] == [*range(40), 0]
    assert all(sample.scene.objects[0].label == sample.label for sample in samples)
    (crowded,) = generate('train', SceneSplit(1, (8, 8), False, True), 0, 1, 32, 0, 50)
    assert isinstance(crowded.scene, HardScene)
    assert crowded.mask is None
    for caption in crowded.captions:
        assert sum(caption.count(name) for name in CLASSES) <= 3
