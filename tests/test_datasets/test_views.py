import numpy as np
import pytest
import torch

from mmmaskclip.datasets.transforms.views import ImageViews

CROP = {'type': 'torchvision/RandomResizedCrop', 'size': 8, 'scale': (0.5, 1), 'interpolation': 'bicubic'}


def test_views_depend_on_seed_and_name_only(tools):
    photo = tools.photo(0, (40, 30))
    image = ImageViews({'image': [CROP]})(photo, 5)['image']
    assert image.shape == (3, 8, 8)
    assert image.dtype == torch.uint8
    both = ImageViews({'other': [CROP], 'image': [CROP]})(photo, 5)
    assert torch.equal(both['image'], image)
    assert not torch.equal(both['other'], image)
    assert not torch.equal(ImageViews({'image': [CROP]})(photo, 6)['image'], image)


def test_a_list_becomes_stacked_crops(tools):
    crops = ImageViews({'crops': [{'type': 'torchvision/FiveCrop', 'size': 6}]})(tools.photo(), 0)['crops']
    assert crops.shape == (5, 3, 6, 6)


def test_pixels_are_kept(tools):
    photo = tools.photo(0)
    image = ImageViews({'image': [lambda image: image]})(photo, 0)['image']
    assert np.array_equal(image.permute(1, 2, 0).numpy(), photo)


def test_floats_are_refused(tools):
    with pytest.raises(TypeError, match="view 'image' must end with .*, got a torch.float32 tensor"):
        ImageViews({'image': [lambda image: torch.zeros(3, 2, 2)]})(tools.photo(), 0)


def test_wrong_configs_are_named():
    with pytest.raises(ValueError, match="unknown interpolation 'cubic'; known are nearest"):
        ImageViews({'image': [{**CROP, 'interpolation': 'cubic'}]})
    with pytest.raises(ValueError, match='views must be a dict'):
        ImageViews({})


SIMCLR = [
    {'type': 'torchvision/RandomResizedCrop', 'size': 8, 'scale': (0.08, 1), 'interpolation': 'bicubic'},
    {
        'type': 'torchvision/RandomApply',
        'transforms': [
            {'type': 'torchvision/ColorJitter', 'brightness': 0.4, 'contrast': 0.4, 'saturation': 0.4, 'hue': 0.1}
        ],
        'p': 0.8,
    },
    {'type': 'torchvision/RandomGrayscale', 'p': 0.2},
    {
        'type': 'torchvision/RandomApply',
        'transforms': [{'type': 'torchvision/GaussianBlur', 'kernel_size': 5, 'sigma': (0.1, 2.0)}],
        'p': 0.5,
    },
    {'type': 'torchvision/RandomHorizontalFlip'},
]


def test_nested_transforms_are_built(tools):
    photo = tools.photo(0, (40, 30))
    views = ImageViews({'augmented_1': SIMCLR, 'augmented_2': SIMCLR})
    first = views(photo, 5)
    assert first['augmented_1'].shape == (3, 8, 8)
    assert first['augmented_1'].dtype == torch.uint8
    assert not torch.equal(first['augmented_1'], first['augmented_2'])
    again = views(photo, 5)
    assert all(torch.equal(first[name], again[name]) for name in first)
    blur = {'type': 'torchvision/GaussianBlur', 'kernel_size': 5, 'sigma': 2.0}
    plain = ImageViews({'image': [lambda image: image]})(photo, 0)['image']
    for probability, changed in ((0.0, False), (1.0, True)):
        apply = {'type': 'torchvision/RandomApply', 'transforms': [blur], 'p': probability}
        assert torch.equal(ImageViews({'image': [apply]})(photo, 0)['image'], plain) != changed
