import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.transforms import decode
from mmmaskclip.datasets.transforms.decode import decode_image, decode_tensor
from mmmaskclip.datasets.transforms.views import ImageViews


@pytest.mark.parametrize('kind', ['truncated', 'html', 'zero', 'cmyk', 'gray16', 'animated', 'bomb'])
def test_bad_images_have_their_cause(tools, kind):
    files, cause = tools.bad(kind)
    data = next(data for name, data in files.items() if name != 'txt')
    with pytest.raises(BadSample) as caught:
        decode_image(data)
    assert caught.value.cause == cause


def test_16_bit_colour_png_is_refused():
    # Pillow opens it as 8-bit RGB, and cannot write one.
    _, data = cv2.imencode('.png', np.full((4, 4, 3), 40000, np.uint16))
    with pytest.raises(BadSample, match='unsupported_mode: PNG of mode RGB, 16 bit'):
        decode_image(data.tobytes())


def test_max_pixels(tools):
    data = tools.encode(tools.photo(0, (12, 10)))
    assert decode_image(data, max_pixels=120).size == (12, 10)
    with pytest.raises(BadSample, match='12x10 has more than max_pixels=119'):
        decode_image(data, max_pixels=119)


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', 'LA', '1'])
def test_other_modes_become_rgb(tools, mode):
    image = decode_image(tools.encode(tools.photo(0).convert(mode), 'PNG'))
    assert image.mode == 'RGB'


def test_content(tools):
    photo = tools.photo(3)
    assert np.array_equal(decode_image(tools.encode(photo, 'PNG')), photo)
    assert isinstance(decode_image(tools.encode(photo)), Image.Image)


def test_a_photograph_with_a_preview_is_no_animation():
    photo, file = Image.new('RGB', (32, 24), (200, 40, 40)), io.BytesIO()
    # As phones write it: a second, smaller JPEG after the first.
    photo.save(file, 'MPO', save_all=True, append_images=[photo.resize((8, 6))])
    assert Image.open(file).is_animated
    assert decode_image(file.getvalue()).size == (32, 24)


@pytest.mark.parametrize('subsampling', ['4:4:4', '4:2:2', '4:2:0'])
def test_simplejpeg_gives_pillows_pixels_and_causes(tools, monkeypatch, subsampling):
    photo = tools.photo(0, (61, 47))
    for options in ({}, {'progressive': True}, {'quality': 30}, {'quality': 100}):
        data = tools.encode(photo, subsampling=subsampling, **options)
        fast = decode_image(data)
        with monkeypatch.context() as patch:
            patch.setattr(decode, 'simplejpeg', None)
            assert np.array_equal(fast, decode_image(data))
        # A cut file is Pillow's to judge.
        with pytest.raises(BadSample, match='truncated_image'):
            decode_image(data[: len(data) // 2])


def _upside_down(tools):
    exif = Image.Exif()
    exif[0x0112] = 3
    return tools.encode(tools.photo(1), exif=exif)


@pytest.mark.parametrize('installed', [True, False])
def test_tensors_have_the_pixels_of_images(tools, monkeypatch, installed):
    if not installed:
        monkeypatch.setattr(decode, 'simplejpeg', None)
    gray, png = tools.encode(tools.photo(2).convert('L')), tools.encode(tools.photo(3).convert('RGBA'), 'PNG')
    for data in (tools.encode(tools.photo(0)), _upside_down(tools), gray, png):
        assert torch.equal(decode_tensor(data), pil_to_tensor(decode_image(data)))
    large = tools.encode(tools.photo(0, (64, 48)))
    assert torch.equal(decode_tensor(large, shrink_to=12), pil_to_tensor(decode_image(large, shrink_to=12)))
    with pytest.raises(BadSample, match='truncated_image'):
        decode_tensor(tools.encode(tools.photo(0, (64, 48)))[:-200])


def test_crops_of_tensors_are_those_of_images_to_one_grey_level(tools):
    views = ImageViews({'image': [dict(type='torchvision/RandomResizedCrop', size=24, interpolation='bicubic')]})
    data = tools.encode(tools.photo(0, (96, 80)), quality=95)
    for seed in range(5):
        of_image, of_tensor = views(decode_image(data), seed)['image'], views(decode_tensor(data), seed)['image']
        assert of_tensor.shape == (3, 24, 24)
        assert (of_image.int() - of_tensor.int()).abs().max() <= 1


def test_large_jpegs_can_be_decoded_at_a_fraction(tools):
    data = tools.encode(Image.effect_noise((200, 120), 60).convert('RGB'))
    sizes = [decode_image(data, shrink_to=side).size for side in (120, 61, 60, 30, 15, 1, 500)]
    assert sizes == [(200, 120), (200, 120), (100, 60), (50, 30), (25, 15), (25, 15), (200, 120)]
    assert decode_image(tools.encode(tools.photo(0), 'PNG'), shrink_to=2).size == (12, 10)
