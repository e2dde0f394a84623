import io

import cv2
import numpy as np
import pytest
from PIL import Image

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.transforms import decode
from mmmaskclip.datasets.transforms.decode import decode_image


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


def test_large_jpegs_can_be_decoded_at_a_fraction(tools):
    data = tools.encode(Image.effect_noise((200, 120), 60).convert('RGB'))
    sizes = [decode_image(data, shrink_to=side).size for side in (120, 61, 60, 30, 15, 1, 500)]
    assert sizes == [(200, 120), (200, 120), (100, 60), (50, 30), (25, 15), (25, 15), (200, 120)]
    assert decode_image(tools.encode(tools.photo(0), 'PNG'), shrink_to=2).size == (12, 10)
