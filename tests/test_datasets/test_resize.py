"""Images as a model was trained with them: NaFlex's sizes and pixels are those that transformers has recorded."""

import json

import numpy as np
import pytest
import torch
from paths import ROOT
from PIL import Image
from recorded_towers import photo

from mmmaskclip.apis.images import stacks_of_one_shape
from mmmaskclip.datasets.transforms.resize import ResizeToPatches, resize_for_model, size_of_patches
from mmmaskclip.registry import TRANSFORMS

RECORDED = json.loads((ROOT / 'tests/recorded/transformers_siglip2_images.json').read_text())


def test_sizes_equal_transformers():
    for height, width, patch, budget, *size in RECORDED['sizes']:
        assert size_of_patches((height, width), patch, budget) == tuple(size), (height, width, patch, budget)


@pytest.mark.parametrize('index', [0, 1])
def test_pixels_equal_transformers(index):
    """Rows of patches, normalized from -1 to 1, but for one grey level of rounding."""
    recorded = RECORDED['images'][index]
    image = Image.fromarray(photo(*recorded['shape']))
    rows, columns = recorded['grid']
    for found in (
        resize_for_model(image, (12, 16), 'bilinear', 'patches', patch_size=4),
        TRANSFORMS.build(dict(type='ResizeToPatches', patch_size=4, max_patches=12))(image),
    ):
        assert found.size == (4 * columns, 4 * rows)
        pixels = np.asarray(found, dtype=np.float32).reshape(rows, 4, columns, 4, 3).transpose(0, 2, 1, 3, 4)
        np.testing.assert_allclose(pixels.ravel() / 127.5 - 1, recorded['pixels'], atol=1.01 / 127.5)


def test_images_of_one_shape_form_a_batch():
    images = [torch.full(shape, float(index)) for index, shape in enumerate([(3, 4, 4), (3, 4, 8), (3, 4, 4)])]
    stacks = list(stacks_of_one_shape([images[0], 'broken', *images[1:]]))
    assert [places for places, _ in stacks] == [[0, 3], [2]]
    assert [stack.shape for _, stack in stacks] == [(2, 3, 4, 4), (1, 3, 4, 8)]
    assert stacks[0][1][1, 0, 0, 0] == 2


def test_numbers_are_positive():
    with pytest.raises(ValueError, match='ResizeToPatches: patch_size=16, max_patches=0: both are positive'):
        ResizeToPatches(max_patches=0)
