"""``type='auto'``: what lies at a path is told, said and read, whatever it is."""

import argparse
import io
import json

import pytest
from paths import ROOT
from PIL import Image

from mmmaskclip.cli.config import load_config
from mmmaskclip.cli.paths import check_paths
from mmmaskclip.datasets import ImageTextPairs, ImageTextShards
from mmmaskclip.datasets.training import auto
from mmmaskclip.datasets.training.auto import default_sampler, find_data
from mmmaskclip.registry import DATASETS

CAPTIONS = [['a red cat', 'the cat'], ['a dog'], ['a bird', 'one bird']]


def _image(number):
    file = io.BytesIO()
    Image.new('RGB', (10 + number, 8), (80 * number, 0, 0)).save(file, 'PNG')
    return file.getvalue()


def _files(root, folder=''):
    (root / folder).mkdir(exist_ok=True)
    for number in range(3):
        (root / folder / f'{number}.png').write_bytes(_image(number))


def _rows():
    return [(f'{number}.png', text) for number, texts in enumerate(CAPTIONS) for text in texts]


def _shards(root, tools):
    samples = {
        f'{number}': {'png': _image(number), 'txt': texts[0].encode(), 'json': json.dumps({'captions': texts}).encode()}
        for number, texts in enumerate(CAPTIONS)
    }
    tools.write_tar(root / '00000.tar', samples)
    return root


def _csv(root, tools):
    _files(root, 'images')
    (root / 'a.csv').write_text('\ufeffimage,title\n' + '\n'.join(f'{name},{text}' for name, text in _rows()))
    return root / 'a.csv'


def _tsv(root, tools):
    _files(root)
    (root / 'a.tsv').write_text('filepath\ttext\n' + '\n'.join(f'{name}\t{text}' for name, text in _rows()))
    return root / 'a.tsv'


def _jsonl(root, tools):
    _files(root)
    lines = [json.dumps({'img': f'{number}.png', 'captions': texts}) for number, texts in enumerate(CAPTIONS)]
    (root / 'a.jsonl').write_text('\n'.join(lines))
    return root / 'a.jsonl'


def _imagefolder(root, tools):
    _files(root)
    (root / 'metadata.csv').write_text('file_name,text\n' + '\n'.join(f'{name},{text}' for name, text in _rows()))
    return root


def _coco(root, tools):
    _files(root, 'val2017')
    (root / 'annotations').mkdir()
    content = {
        'images': [{'id': number, 'file_name': f'{number}.png'} for number in range(3)],
        'annotations': [{'image_id': int(name[0]), 'caption': text} for name, text in _rows()],
    }
    (root / 'annotations/captions_val2017.json').write_text(json.dumps(content))
    return root / 'annotations/captions_val2017.json'


def _folder(root, tools):
    _files(root, 'photos')
    (root / 'photos/0.json').write_text(json.dumps({'caption': CAPTIONS[0]}))
    (root / 'photos/1.txt').write_text(CAPTIONS[1][0])
    (root / 'photos/2.JSON').write_text(json.dumps({'captions': CAPTIONS[2], 'text': CAPTIONS[2][0]}))
    (root / 'photos/._0.png').write_bytes(b'of macOS')
    return root


def _pyarrow():
    pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    import pyarrow.parquet

    return pyarrow


def _parquet(root, tools):
    pa = _pyarrow()
    _files(root)
    table = pa.table({'file_name': [f'{number}.png' for number in range(3)], 'captions': CAPTIONS})
    pa.parquet.write_table(table, root / 'a.parquet')
    return root / 'a.parquet'


def _arrow(root, tools):
    """As ``datasets.Dataset.save_to_disk`` writes it: Arrow streams, images as structs."""
    pa = _pyarrow()
    images = [{'bytes': _image(number), 'path': None} for number in range(3)]
    table = pa.table({'image': images, 'captions': CAPTIONS})
    for part, rows in enumerate((table.slice(0, 2), table.slice(2))):
        with pa.ipc.new_stream(root / f'data-{part:05d}-of-00002.arrow', table.schema) as stream:
            stream.write_table(rows)
    (root / 'state.json').write_text('{}')
    return root


KINDS = [_shards, _csv, _tsv, _jsonl, _imagefolder, _coco, _folder, _parquet, _arrow]


@pytest.mark.parametrize('write', KINDS)
def test_every_kind_is_found_said_and_read(write, tmp_path, tools, monkeypatch):
    said = []
    monkeypatch.setattr(auto, 'print_log', lambda text, **kwargs: said.append(text))
    root = tmp_path / 'data'
    root.mkdir()
    dataset = DATASETS.build(dict(type='auto', path=str(write(root, tools)), views={'image': []}))
    dataset.preflight()
    dataset.begin_epoch(0, 0, 1)
    samples = list(dataset) if isinstance(dataset, ImageTextShards) else [dataset[i] for i in range(len(dataset))]
    assert sorted(sample['image'].shape[2] for sample in samples) == [10, 11, 12]
    assert [sample['skipped'] for sample in samples] == [[], [], []]
    (text,) = said
    assert f'{root}' in text
    assert '3 images checked: 10x8 to 12x8 pixels' in text
    assert 'a red cat | the cat' in text
    how_many = (
        '1 shards of 3 images; 1.7 captions per image in the first 3'
        if write is _shards
        else '3 images, 5 captions (1.7 per image)'
    )
    assert how_many in text
    if isinstance(dataset, ImageTextPairs):
        assert [dataset.raw(i)[2] for i in range(3)] == CAPTIONS


def test_what_cannot_be_read_is_said_with_a_remedy(tmp_path, tools):
    with pytest.raises(FileNotFoundError, match='neither a file nor a folder'):
        find_data(str(tmp_path / 'lost'))
    (tmp_path / 'a.xlsx').touch()
    with pytest.raises(ValueError, match=r'cannot tell the format of .*a\.xlsx; .*make_shards\.py'):
        find_data(str(tmp_path / 'a.xlsx'))
    with pytest.raises(ValueError, match=r'has no tar files, images, parquet or arrow files, but a\.xlsx'):
        find_data(str(tmp_path))
    (tmp_path / 'urls.csv').write_text('url,caption\nhttps://a/b.jpg,x\n')
    with pytest.raises(ValueError, match='looks like the image; set image_key. It lists addresses: download them'):
        find_data(str(tmp_path / 'urls.csv'))
    (tmp_path / 'excel.csv').write_text('filepath;caption\n0.jpg;x\n')
    with pytest.raises(ValueError, match="set image_key. Its cells are separated by ';': save the list with commas"):
        find_data(str(tmp_path / 'excel.csv'))
    (tmp_path / 'none.csv').touch()
    with pytest.raises(ValueError, match='set image_key. The file is empty'):
        find_data(str(tmp_path / 'none.csv'))
    (tmp_path / 'broken.jsonl').write_text('\n{"filepath": \n')
    with pytest.raises(ValueError, match=r'broken\.jsonl: no line is json; line 2: broken_json'):
        find_data(str(tmp_path / 'broken.jsonl'))
    # What else is broken is counted by the reader, with its line.
    (tmp_path / 'broken.jsonl').write_text('{"filepath": \n{"filepath": "0.png", "caption": "a"}\n')
    assert find_data(str(tmp_path / 'broken.jsonl')).options['image_key'] == 'filepath'
    tools.write_tar(tmp_path / 'a.tar', {'0': {'png': _image(0), 'cls': b'3'}})
    with pytest.raises(ValueError, match=r'a\.tar: sample 0 has no caption in txt or json, but cls, png'):
        find_data(str(tmp_path / 'a.tar'))


def test_images_inside_of_parquet_become_shards_first(tmp_path):
    pa = _pyarrow()
    pa.parquet.write_table(pa.table({'image': [{'bytes': b'x', 'path': ''}], 'text': ['a']}), tmp_path / 'a.parquet')
    with pytest.raises(ValueError, match=r'Convert it to shards: python tools/dataset_converters/make_shards\.py'):
        DATASETS.build(dict(type='auto', path=str(tmp_path), views={'image': []}))


def test_the_name_of_a_folder_of_parquet_is_no_pattern(tmp_path, tools):
    folder = tmp_path / 'photos [1]'
    folder.mkdir()
    _parquet(folder, tools)
    assert len(DATASETS.build(dict(type='auto', path=str(folder), views={'image': []}))) == 3


def test_the_config_of_the_docs_is_accepted_and_reads(tmp_path, tools):
    text = (ROOT / 'docs/data.md').read_text(encoding='utf-8')
    (block,) = [part.split('```')[0] for part in text.split('```python\n')[1:] if "path='PATH'" in part]
    (tmp_path / 'data').mkdir()
    path = _folder(tmp_path / 'data', tools)
    config = tmp_path / 'config.py'
    config.write_text(block.replace("'configs/", f"'{ROOT}/configs/").replace('PATH', str(path)))
    cfg = load_config(
        argparse.Namespace(config=str(config), cfg_options={}, launcher='none', work_dir=None, device=None)
    )
    check_paths(cfg)
    assert default_sampler(cfg.train_dataloader.dataset)['type'] == 'ResumableSampler'
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 3
    assert default_sampler(dict(type='auto', path=str(_shards(tmp_path, tools)))) is None
    assert default_sampler(dict(type='ImageTextShards', urls='x')) is None
