"""The tiny model as an inferencer, and images for it."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_inferencer import CONFIG

from mmmaskclip.apis import ImageTextInferencer


@pytest.fixture(scope='module')
def inferencer():
    torch.manual_seed(0)
    return ImageTextInferencer(CONFIG, device='cpu')


@pytest.fixture(scope='module')
def images():
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(5)]
