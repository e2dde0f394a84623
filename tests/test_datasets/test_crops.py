import pytest
import torch

from mmmaskclip.datasets.transforms.views import ImageViews
from mmmaskclip.registry import TRANSFORMS

CROP = {'type': 'torchvision/RandomResizedCrop', 'size': 8, 'scale': (0.05, 0.4), 'interpolation': 'bicubic'}


def _crops(photo, count, seed=5):
    return ImageViews({'local': [{'type': 'RepeatCrops', 'count': count, 'transforms': [CROP]}]})(photo, seed)['local']


def test_crops_differ_and_come_from_the_seed(tools):
    photo = tools.photo(0, (40, 30))
    crops = _crops(photo, 6)
    assert crops.shape == (6, 3, 8, 8)
    assert crops.dtype == torch.uint8
    assert len({crop.numpy().tobytes() for crop in crops}) == 6
    assert torch.equal(crops, _crops(photo, 6))
    assert not torch.equal(crops, _crops(photo, 6, seed=6))


def test_more_crops_leave_the_first_as_they_were(tools):
    photo = tools.photo(0, (40, 30))
    assert torch.equal(_crops(photo, 6)[:2], _crops(photo, 2))


def test_transforms_apply_in_turn(tools):
    transform = TRANSFORMS.build({'type': 'RepeatCrops', 'count': 2, 'transforms': [lambda x: x + 1, lambda x: x * 10]})
    assert transform(1) == [20, 20]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match='count=0'):
        TRANSFORMS.build({'type': 'RepeatCrops', 'count': 0, 'transforms': [CROP]})
    with pytest.raises(ValueError, match='transforms is empty'):
        TRANSFORMS.build({'type': 'RepeatCrops'})
