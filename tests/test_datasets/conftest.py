"""Shards with known content, and the ways in which they break."""

import io
import json
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image


def encode(image, kind='JPEG', **kwargs):
    buffer = io.BytesIO()
    image.save(buffer, kind, **kwargs)
    return buffer.getvalue()


def photo(number=0, size=(12, 10)):
    pixels = np.random.default_rng(number).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def good(number):
    """The files of a good sample."""
    captions = [f'caption {number} number {i}' for i in range(3)]
    return {
        'jpg': encode(photo(number)),
        'txt': captions[0].encode(),
        'json': json.dumps({'captions': captions, 'caption': captions[0]}).encode(),
    }


def write_tar(path, samples, **kwargs):
    """Write {key: {extension: bytes}} as a tar file."""
    with tarfile.open(path, 'w', **kwargs) as tar:
        for key, files in samples.items():
            for extension, data in files.items():
                member = tarfile.TarInfo(f'{key}.{extension}')
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return str(path)


BAD = {
    'truncated': ({'jpg': encode(photo(1, (64, 64)))[:600]}, 'truncated_image'),
    'html': ({'jpg': b'<!DOCTYPE html><html><body>404</body></html>'}, 'not_an_image'),
    'zero': ({'jpg': b''}, 'empty_file'),
    'cmyk': ({'jpg': encode(photo(1).convert('CMYK'))}, 'unsupported_mode'),
    'gray16': ({'png': encode(Image.fromarray(np.full((8, 8), 40000, np.uint16)), 'PNG')}, 'unsupported_mode'),
    'animated': (
        {'webp': encode(photo(1), 'WEBP', save_all=True, append_images=[photo(2), photo(3)])},
        'animated',
    ),
    'bomb': ({'png': encode(Image.new('1', (20000, 5000)), 'PNG')}, 'too_large'),
    'no image': ({'mp4': b'video'}, 'missing_image'),
    'no caption': ({'jpg': encode(photo(1))}, 'missing_caption'),
    'blank caption': ({'jpg': encode(photo(1)), 'txt': b' \n'}, 'empty_caption'),
}


def bad(kind):
    """The files of a bad sample, and the cause that must be reported."""
    files, cause = BAD[kind]
    needs_text = cause not in ('missing_caption', 'empty_caption')
    return {**files, **({'txt': b'a caption'} if needs_text else {})}, cause


VIEWS = {'image': [{'type': 'torchvision/RandomResizedCrop', 'size': 8, 'scale': (0.5, 1.0)}]}


@pytest.fixture(autouse=True)
def _cache_of_this_test(tmp_path, monkeypatch):
    """Counts of shards are remembered in the user's cache folder: a test sees its own."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'user cache'))


@pytest.fixture
def tools():
    """Helpers, as a fixture because test folders are no packages."""
    return SimpleNamespace(encode=encode, photo=photo, good=good, bad=bad, write_tar=write_tar, views=VIEWS)


@pytest.fixture
def make_shards(tmp_path):
    """Write shards of good samples, of the given sizes; gives a pattern for them."""

    def make(*sizes, folder='shards'):
        root = tmp_path / folder
        root.mkdir()
        number = 0
        for shard, size in enumerate(sizes):
            samples = {f'{number + i:05d}': good(number + i) for i in range(size)}
            write_tar(root / f'{shard:05d}.tar', samples)
            number += size
        return str(root / '*.tar')

    return make
