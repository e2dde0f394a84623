"""Any kind of pairs becomes shuffled shards; what was written is not written again; what is left out is listed."""

import io
import json
import os
import zipfile

import pytest
from paths import load_module
from PIL import Image

from mmmaskclip.datasets import ImageTextShards
from mmmaskclip.datasets.training import shard_writer
from mmmaskclip.datasets.training.auto import find_data

NUMBER = 9


@pytest.fixture
def make_shards(capsys):
    tool = load_module('tools/dataset_converters/make_shards.py')

    def run(path, out, *args):
        tool.main([str(path), str(out), '--shard-size', '4', '--workers', '1', *args])
        return capsys.readouterr().out

    return run


def _image(number, kind='PNG'):
    file = io.BytesIO()
    Image.new('RGB', (8 + number, 8), (20 * number, 0, 0)).save(file, kind)
    return file.getvalue()


def _texts(number):
    return [f'a cat number {number}', f'the {number}th cat']


def _folder(root):
    for number in range(NUMBER):
        (root / f'{number:02d}.jpg').write_bytes(_image(number))
        (root / f'{number:02d}.json').write_text(json.dumps({'captions': _texts(number)}))


def _csv(root):
    rows = [f'{number:02d}.jpg,{text}' for number in range(NUMBER) for text in _texts(number)]
    for number in range(NUMBER):
        (root / f'{number:02d}.jpg').write_bytes(_image(number, 'GIF' if number == 3 else 'PNG'))
    (root / 'a.csv').write_text('image,text\n' + '\n'.join(rows))
    return root / 'a.csv'


def _parquet(root):
    pa = pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    import pyarrow.parquet

    images = [{'bytes': _image(number), 'path': f'{number}.png'} for number in range(NUMBER)]
    table = pa.table({'image': images, 'text': [_texts(number) for number in range(NUMBER)]})
    pyarrow.parquet.write_table(table.slice(0, 5), root / 'a.parquet', row_group_size=2)
    pyarrow.parquet.write_table(table.slice(5), root / 'b.parquet', row_group_size=3)


def _read(out):
    dataset = ImageTextShards(str(out), {'image': []}, 'json:captions')
    dataset.preflight()
    dataset.begin_epoch(0, 0, 1)
    return {int(sample['image'][0, 0, 0]) // 20: sample for sample in dataset}


@pytest.mark.parametrize('write', [_folder, _csv, _parquet])
def test_every_kind_becomes_shuffled_shards(make_shards, tmp_path, write):
    data = tmp_path / 'data'
    data.mkdir()
    path = write(data) or data
    said = make_shards(path, tmp_path / 'out')
    assert f'{NUMBER} samples in 3 shards' in said
    assert '[3/3]' in said
    samples = _read(tmp_path / 'out')
    assert sorted(samples) == list(range(NUMBER))
    assert all(sample['image'].shape[2] == 8 + number for number, sample in samples.items())
    order = [number for number, _ in sorted(samples.items(), key=lambda item: item[1]['key'])]
    assert order != sorted(order)
    counts = json.loads((tmp_path / 'out/counts.json').read_text())
    assert counts == {'00000.tar': 4, '00001.tar': 4, '00002.tar': 1}


def test_two_processes_shuffle_shards_anew(make_shards, tmp_path):
    (tmp_path / 'data').mkdir()
    _folder(tmp_path / 'data')
    make_shards(tmp_path / 'data', tmp_path / 'out')
    make_shards(tmp_path / 'out', tmp_path / 'again', '--seed', '1', '--workers', '2')
    assert sorted(_read(tmp_path / 'again')) == list(range(NUMBER))


def test_an_interrupted_run_goes_on_and_writes_the_same(make_shards, tmp_path, monkeypatch):
    (tmp_path / 'data').mkdir()
    _folder(tmp_path / 'data')
    make_shards(tmp_path / 'data', tmp_path / 'whole')
    write = shard_writer.write_shard

    def killed(path, *args):
        if path.name == '00001.tar':
            raise KeyboardInterrupt
        return write(path, *args)

    monkeypatch.setattr(shard_writer, 'write_shard', killed)
    with pytest.raises(KeyboardInterrupt):
        make_shards(tmp_path / 'data', tmp_path / 'out')
    monkeypatch.undo()
    before = os.stat(tmp_path / 'out/00000.tar').st_mtime_ns
    assert '1 parts are there already' in make_shards(tmp_path / 'data', tmp_path / 'out')
    assert os.stat(tmp_path / 'out/00000.tar').st_mtime_ns == before
    for number in range(3):
        name = f'{number:05d}.tar'
        assert (tmp_path / 'out' / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()
    with pytest.raises(SystemExit, match='holds shards of other data or options'):
        make_shards(tmp_path / 'data', tmp_path / 'out', '--seed', '2')


def test_what_cannot_be_used_is_left_out_and_listed(make_shards, tmp_path):
    (tmp_path / 'data').mkdir()
    _folder(tmp_path / 'data')
    (tmp_path / 'data/04.jpg').write_bytes(b'<html>')
    (tmp_path / 'data/05.jpg').unlink()
    (tmp_path / 'data/06.json').write_text('{"captions": "&nbsp;"}')
    said = make_shards(tmp_path / 'data', tmp_path / 'out')
    assert '6 samples in 2 shards; 1 are left out' in said
    records = [json.loads(line) for line in (tmp_path / 'out/bad_samples.jsonl').read_text().splitlines()]
    assert [(record['key'], record['cause']) for record in records] == [('04.jpg', 'not_an_image')]
    assert sorted(_read(tmp_path / 'out')) == [0, 1, 2, 3, 7, 8]


class Hub:
    """A stand-in for huggingface_hub.HfFileSystem: ``datasets/me/pairs`` is a folder of this machine."""

    root = None

    def glob(self, pattern):
        inside = pattern.removeprefix('datasets/me/pairs/')
        return [f'datasets/me/pairs/{path.relative_to(self.root)}' for path in self.root.glob(inside)]

    def open(self, path, mode):
        return open(self.root / path.removeprefix('datasets/me/pairs/'), mode)


def test_a_data_set_of_hugging_face_is_streamed_into_shards(make_shards, tmp_path, monkeypatch):
    """Without a copy of it on this machine: row groups are read where they are."""
    pytest.importorskip('huggingface_hub', reason='huggingface_hub is not installed')
    (tmp_path / 'data').mkdir()
    _parquet(tmp_path / 'data')
    monkeypatch.setattr(Hub, 'root', tmp_path / 'data')
    monkeypatch.setattr('huggingface_hub.HfFileSystem', Hub)
    assert f'{NUMBER} samples in 3 shards' in make_shards('hf://datasets/me/pairs', tmp_path / 'out')
    assert sorted(_read(tmp_path / 'out')) == list(range(NUMBER))
    make_shards('hf://datasets/me/pairs/b.parquet', tmp_path / 'part')
    assert sorted(_read(tmp_path / 'part')) == list(range(5, NUMBER))
    for path, message in (
        ('hf://me/pairs', 'is a model: data sets are hf://datasets/OWNER/NAME'),
        (
            'hf://datasets/me/pairs/none',
            r"urls='https://huggingface\.co/datasets/me/pairs/none/resolve/main/NAME\.tar'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            find_data(path)


@pytest.fixture
def datasets(monkeypatch):
    library = pytest.importorskip('datasets', reason='datasets is not installed')
    # Else it asks the hub about folders of this machine, and waits for answers.
    monkeypatch.setattr(library.config, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)


@pytest.fixture
def repository(tmp_path, datasets):
    """A folder laid out like a data set of Hugging Face: two configs of two splits, two files each."""
    pa = pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    import pyarrow.parquet

    root, readme = tmp_path / 'hub', '---\nconfigs:\n'
    for config, offset in (('en', 0), ('de', 6)):
        (root / config).mkdir(parents=True)
        readme += f'- config_name: {config}\n  data_files:\n'
        for split, numbers in (('train', range(4)), ('test', range(4, 6))):
            readme += f'  - split: {split}\n    path: {config}/{split}-*\n'
            for half in (0, 1):
                chosen = [offset + number for number in numbers if number % 2 == half]
                images = [{'bytes': _image(number), 'path': None} for number in chosen]
                table = pa.table({'image': images, 'text': [f'{config} {number}' for number in chosen]})
                pyarrow.parquet.write_table(table, root / config / f'{split}-{half:05d}-of-00002.parquet')
    (root / 'README.md').write_text(f'{readme}---\n')
    return root


def test_configs_and_splits_that_datasets_streams_become_shards(make_shards, tmp_path, repository):
    said = make_shards(repository, tmp_path / 'out', '--config', 'en', 'de', '--split', 'train', '--shard-size', '1')
    assert 'stream, 4 files of a stream, in 4 parts' in said
    assert '8 samples in 8 shards' in said
    samples = _read(tmp_path / 'out')
    assert sorted(samples) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert len({sample['key'] for sample in samples.values()}) == 8
    assert {'00000.tar', '00000-001.tar'} < {*json.loads((tmp_path / 'out/counts.json').read_text())}
    # After an interruption the same bytes.
    args = '--config', 'en', 'de', '--split', 'train', '--shard-size', '1'
    (tmp_path / 'out/.00002.json').unlink()
    before = {file.name: file.read_bytes() for file in (tmp_path / 'out').glob('*.tar')}
    assert '3 parts are there already' in make_shards(repository, tmp_path / 'out', *args)
    assert {file.name: file.read_bytes() for file in (tmp_path / 'out').glob('*.tar')} == before
    for args, message in (
        (('--split', 'train'), 'has several configs: give --config with one or more of en, de'),
        (('--config', 'fr'), 'has no config fr: give --config with one or more of en, de'),
        (('--config', 'en', '--split', 'dev'), 'has no split dev: give --split with one or more of train, test'),
        (('--config', 'en'), 'has several splits: give --split with one or more of train, test'),
        ((), 'holds several splits .* give a pattern of the files of one'),
    ):
        with pytest.raises(SystemExit, match=message):
            make_shards(repository, tmp_path / 'no', *args)
    make_shards(repository / 'de/test-*.parquet', tmp_path / 'part')
    assert sorted(_read(tmp_path / 'part')) == [10, 11]


def test_a_stream_of_image_files_is_read_where_they_lie(tmp_path, make_shards, datasets):
    (tmp_path / 'data').mkdir()
    with zipfile.ZipFile(tmp_path / 'data/train.zip', 'w') as file:
        for number in range(3):
            file.writestr(f'{number}.png', _image(number))
        lines = [json.dumps({'file_name': f'{number}.png', 'text': f'a cat {number}'}) for number in range(3)]
        file.writestr('metadata.jsonl', '\n'.join(lines))
    assert '3 samples in 1 shards' in make_shards(tmp_path / 'data', tmp_path / 'out', '--split', 'train')
    assert sorted(_read(tmp_path / 'out')) == [0, 1, 2]


def test_a_stream_takes_no_root_of_files(tmp_path, make_shards, capsys):
    with pytest.raises(SystemExit):
        make_shards(tmp_path, tmp_path / 'out', '--split', 'train', '--data-root', str(tmp_path))
    assert 'leave --data-root out' in capsys.readouterr().err


def test_a_stream_that_names_its_images_is_refused(tmp_path, make_shards, datasets):
    (tmp_path / 'train.csv').write_text('url,image,text\nx,https://a/b.jpg,a cat\n')
    with pytest.raises(SystemExit, match=r"names its images, as 'https://a/b\.jpg', .* download them first"):
        make_shards(tmp_path, tmp_path / 'out', '--split', 'train')
