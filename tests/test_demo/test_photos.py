"""Whatever a person drops: a photo, or a sentence."""

import io

import numpy as np
import pytest
from PIL import Image

from mmmaskclip.demo import photos
from mmmaskclip.demo.photos import Photo, PhotoStore, Refused, read_photo


def encode(image, kind='PNG', **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_a_photo_is_read_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    photo = read_photo(encode(Image.fromarray(pixels)))
    assert (np.asarray(photo.image) == pixels).all()
    assert photo.notes == ()
    assert read_photo(encode(Image.fromarray(pixels))).key == photo.key


def test_a_phones_picture_is_turned_upright():
    exif = Image.Exif()
    exif[274] = 6
    photo = read_photo(encode(Image.new('RGB', (40, 20)), 'JPEG', exif=exif))
    assert photo.image.size == (20, 40)


def test_an_animation_shows_its_first_frame_and_says_so():
    frames = [Image.new('RGB', (32, 24), colour) for colour in ('red', 'blue', 'green')]
    photo = read_photo(encode(frames[0], 'GIF', save_all=True, append_images=frames[1:]))
    assert photo.image.getpixel((5, 5)) == (255, 0, 0)
    assert photo.notes == ('This is an animation: its first frame is shown.',)


def test_a_scan_of_100_megapixels_is_read_small_as_jpeg_and_refused_as_png():
    scan = Image.new('L', (10_000, 10_000), 200)
    photo = read_photo(encode(scan, 'JPEG', quality=20))
    assert max(photo.image.size) == photos.LONGEST_SIDE
    assert 'made smaller' in photo.notes[0]
    with pytest.raises(Refused, match=r'10000x10000.*at most 50 megapixels, or as a JPEG'):
        read_photo(encode(scan.convert('1')))


@pytest.mark.parametrize(
    ('data', 'sentence'),
    [
        (b'', 'The file is empty'),
        (b'<html>not found</html>', 'The file is no image: choose a JPEG'),
        (b'%!PS-Adobe', r'PostScript \(EPS\)'),
        (encode(Image.effect_noise((64, 64), 50))[:900], 'The image is damaged'),
        (encode(Image.fromarray(np.full((8, 8), 40000, np.uint16))), r'16 bit\): save it as an RGB image'),
        (encode(Image.new('RGB', (13, 1))), 'The photo is 13 x 1 pixels, a strip'),
    ],
    ids=['empty', 'text', 'PostScript', 'half', '16 bit', 'strip'],
)
def test_what_is_no_photo_gets_a_sentence(data, sentence):
    with pytest.raises(Refused, match=sentence):
        read_photo(data)


def test_a_large_file_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(photos, 'MOST_BYTES', 2_000_000)
    with pytest.raises(Refused, match='The file has 3 MB: the most is 2 MB'):
        read_photo(bytes(3_000_000))


def test_the_photo_that_nobody_asked_for_longest_goes():
    store = PhotoStore(most=2)
    for key in 'ab':
        store.add(Photo(key, Image.new('RGB', (1, 1))))
    assert store.get('a').key == 'a'
    store.add(Photo('c', Image.new('RGB', (1, 1))))
    assert store.get('a').key == 'a'
    with pytest.raises(Refused, match='no longer keeps this photo'):
        store.get('b')
    with pytest.raises(Refused, match='There is no photo yet'):
        store.get(None)
