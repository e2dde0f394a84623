"""The same odd file through every reader: one answer. A tar with odd names through every reader of tars: one answer."""

import io
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from mmmaskclip.apis.images import open_image
from mmmaskclip.datasets import EvaluationShards, ImageTextPairs, ImageTextShards, LabelledImages, SegmentationImages
from mmmaskclip.datasets.sampling import BadSample

WHOLE = {'image': []}


def _first(dataset):
    """The pixels of the odd sample, or the cause under which training counts it."""
    dataset.begin_epoch(0, 0, 2)
    samples = list(dataset) if isinstance(dataset, ImageTextShards) else [dataset[i] for i in range(len(dataset))]
    causes = [record['cause'] for sample in samples for record in sample['skipped']]
    assert len(causes) < 2
    return causes[0] if causes else next(s['image'] for s in samples if 'odd' in s['key']).numpy()


def _shards(folder, tools, prefix=''):
    samples = {'odd': {'jpg': (folder / 'odd.jpg').read_bytes(), 'txt': b'odd'}, 'other': tools.good(1)}
    path = tools.write_tar(folder / 'a.tar', samples)
    # Whole images have two sizes, so no batch is made of them.
    return _first(ImageTextShards(prefix + path, WHOLE, num_samples=2 if prefix else None))


def _pipe(folder, tools):
    return _shards(folder, tools, 'pipe:cat ')


def _pairs(folder, tools):
    (folder / 'other.jpg').write_bytes(tools.good(1)['jpg'])
    (folder / 'a.csv').write_text('filepath,caption\nodd.jpg,odd\nother.jpg,other\n')
    return _first(ImageTextPairs(str(folder / 'a.csv'), WHOLE))


def _evaluation(folder, tools):
    path = tools.write_tar(folder / 'b.tar', {'odd': {'jpg': (folder / 'odd.jpg').read_bytes()}})
    return EvaluationShards(path, [])[0]['image'].numpy()


def _labelled(folder, tools):
    # A folder per class, as torchvision reads it.
    for name in ('cat', 'dog'):
        (folder / f'sets/{name}').mkdir(parents=True)
        (folder / f'sets/{name}/odd.jpg').write_bytes((folder / 'odd.jpg').read_bytes())
    source = dict(type='torchvision/ImageFolder', root=str(folder / 'sets'))
    return LabelledImages(source, str(folder / 'sets'), ['cat', 'dog'], [], 2)[0]['image'].numpy()


def _segmentation(folder, tools):
    for name in ('images', 'masks'):
        (folder / name).mkdir()
    (folder / 'images/odd.jpg').write_bytes((folder / 'odd.jpg').read_bytes())
    try:
        with Image.open(folder / 'odd.jpg') as image:
            size = open_image(folder / 'odd.jpg').size if image.format in ('JPEG', 'PNG') else image.size
    except Exception:
        size = (8, 8)
    Image.new('L', size).save(folder / 'masks/odd.png')
    source = dict(
        type='mmseg.BaseSegDataset',
        data_root=str(folder),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        metainfo=dict(classes=('a', 'b')),
    )
    return SegmentationImages(source, [])[0]['image'].numpy()


def _inferencer(folder, tools):
    return np.asarray(open_image(folder / 'odd.jpg')).transpose(2, 0, 1)


READERS = [_shards, _pipe, _pairs, _evaluation, _labelled, _segmentation, _inferencer]
# Published sets are read as their protocols do: these are converted, and counted (test_converted_images.py).
CONVERTED = ('cmyk', 'animated')


def _bytes(image, kind, **kwargs):
    file = io.BytesIO()
    image.save(file, kind, **kwargs)
    return file.getvalue()


def _turned(orientation, kind='JPEG'):
    """Red above blue when it is held upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new('RGB', (48, 64), (250, 10, 10))
    image.paste((10, 10, 250), (0, 32, 48, 64))
    stored = {1: image, 3: image.rotate(180), 6: image.rotate(90, expand=True), 8: image.rotate(270, expand=True)}
    return _bytes(stored[orientation], kind, exif=exif)


def _transparent(mode):
    image = Image.new('RGBA', (16, 16), (0, 200, 0, 0))
    image.paste((200, 0, 0, 255), (4, 4, 12, 12))
    return _bytes(image.convert(mode) if mode != 'P' else image.quantize(8), 'PNG')


_RGB = Image.new('RGB', (8, 8), (9, 99, 199))
ODD = {
    **{f'orientation {value}': _turned(value) for value in (1, 3, 6, 8)},
    'orientation of a png': _turned(6, 'PNG'),
    'broken exif': _bytes(_RGB, 'JPEG', exif=b'Exif\0\0II*\0\xff\xff\xff\xff'),
    **{f'transparent {mode}': _transparent(mode) for mode in ('RGBA', 'P')},
    'cmyk': _bytes(_RGB.convert('CMYK'), 'JPEG'),
    'animated': _bytes(_RGB, 'GIF', save_all=True, append_images=[Image.new('RGB', (8, 8), (200, 1, 1))]),
    'one frame': _bytes(_RGB, 'GIF'),
    'bmp': _bytes(_RGB, 'BMP'),
    'webp': _bytes(_RGB, 'WEBP', lossless=True),
    'eps': _bytes(_RGB, 'EPS'),
    'tiff': _bytes(_RGB, 'TIFF'),
    'svg': b'\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    'html': b'<html>404</html>',
    'empty': b'',
    'truncated': _bytes(Image.effect_noise((64, 64), 90), 'JPEG')[:900],
}
CAUSES = {
    'cmyk': 'unsupported_mode', 'animated': 'animated', 'eps': 'unsupported_format', 'tiff': 'unsupported_format',
    'svg': 'unsupported_format', 'html': 'not_an_image', 'empty': 'empty_file', 'truncated': 'truncated_image',
}  # fmt: skip


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A stand-in for Ghostscript in the PATH, which writes down that it was called."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    (folder / 'gs').write_text(f'#!/bin/sh\necho called >> {folder}/calls\n')
    (folder / 'gs').chmod(0o755)
    monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')
    return folder / 'calls'


@pytest.mark.parametrize('kind', ODD)
def test_every_reader_gives_the_same_answer(kind, tmp_path, tools, ghostscript):
    (tmp_path / 'odd.jpg').write_bytes(ODD[kind])
    answers = {}
    for reader in READERS:
        try:
            answer = reader(tmp_path, tools)
        except (BadSample, ValueError) as error:
            # The error names the file and the cause.
            answer = next(cause for cause in CAUSES.values() if f'{cause}:' in str(error) and 'odd' in str(error))
        if not (reader is _labelled and kind in CONVERTED):
            answers[reader.__name__] = answer
        else:
            assert answer.shape == (3, 8, 8)
    first = next(iter(answers.values()))
    assert all(np.array_equal(answer, first) for answer in answers.values()), answers
    assert (first if isinstance(first, str) else None) == CAUSES.get(kind)
    assert not ghostscript.exists()
    if kind.startswith('orientation'):
        assert first.shape == (3, 64, 48)
        assert first[0, 5:25].mean() > 200 > 60 > first[0, 40:60].mean()
    if kind.startswith('transparent'):
        assert first[:, 0, 0].tolist() == [255, 255, 255]
        assert first[:, 8, 8].tolist() == [200, 0, 0]


def test_a_mask_that_is_no_png_is_refused(tmp_path, tools, ghostscript):
    for data in (ODD['eps'], ODD['tiff'], _bytes(_RGB, 'PNG')):
        path = tools.write_tar(tmp_path / 'a.tar', {'odd': {**tools.good(0), 'mask.png': data}})
        with pytest.raises(ValueError, match='odd cannot be evaluated: unsupported_(format|mask)'):
            EvaluationShards(path, [], mask_key='mask.png')[0]
    assert not ghostscript.exists()


def _tar(path, names, tools):
    with tarfile.open(path, 'w') as tar:
        for name in names:
            data = tools.good(0).get(name.lower().rpartition('.')[2], b'')
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return str(path)


def _pair(*keys):
    return [f'{key}.{kind}' for key in keys for kind in ('jpg', 'txt')]


MAC = [f'{folder}{name}' for folder in ('d/', '__MACOSX/d/') for name in ('._0.jpg', '.DS_Store')]
NAMES = {
    'underscores': (_pair('a', '__b', 'c', '__d'), ['a', '__b', 'c', '__d'], []),
    'what macOS adds': ([*MAC, *_pair('d/0'), 'd/._1.jpg', *_pair('d/1')], ['d/0', 'd/1'], []),
    'macOS at the top': (['._0.jpg', '.DS_Store', *_pair('0', '1')], ['0', '1'], []),
    'notes': (['__meta__.json', '__notes__', *_pair('0', '1')], ['0', '1'], []),
    'capitals': (['0.JPG', '0.TXT', *_pair('1')], ['0', '1'], []),
    'twice': (['0.jpg', '0.txt', '0.txt', *_pair('1', '2')], ['1', '2'], ['duplicate_member']),
    'not side by side': (['0.jpg', *_pair('1', '2'), '0.txt'], ['1', '2'], ['missing_caption', 'missing_image']),
    'dots': ([*_pair('a1.v2'), *_pair('a2')], ['a2'], ['missing_image']),
}


@pytest.mark.parametrize('kind', NAMES)
def test_odd_names_in_tars(kind, tmp_path, tools):
    names, good, causes = NAMES[kind]
    path = _tar(tmp_path / 'a.tar', names, tools)
    for url, number in ((path, None), (f'pipe:cat {path}', len(good) + len(causes))):
        dataset = ImageTextShards(url, tools.views, num_samples=number)
        dataset.begin_epoch(0, 0, 1)
        samples = list(dataset)
        skipped = [record for sample in samples for record in sample['skipped']]
        assert {sample['key'].removeprefix('a.tar/') for sample in samples} == set(good)
        assert sorted(record['cause'] for record in skipped) == causes
        assert len(samples) == len(good) + len(causes)
        if kind == 'dots':
            assert 'v2.jpg, v2.txt (a name ends at its first dot' in skipped[0]['detail']
    if causes:
        with pytest.raises(ValueError, match=r'a\.tar'):
            EvaluationShards(path, [], 'txt')
    else:
        dataset = EvaluationShards(path, [], 'txt')
        assert [dataset[i]['key'] for i in range(len(dataset))] == [f'a.tar/{key}' for key in good]
