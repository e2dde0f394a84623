import json
import os
from pathlib import Path

import pytest
import torch
from ranks import run_ranks

from mmmaskclip.datasets.training import shard_counts
from mmmaskclip.datasets.training.shard_counts import INDEX_NAME, count_samples, expand_urls, is_indexable, shard_name


def test_expand_urls(make_shards):
    pattern = make_shards(1, 1, 1)
    root = os.path.dirname(pattern)
    every = [f'{root}/0000{i}.tar' for i in range(3)]
    assert expand_urls(pattern) == every
    assert expand_urls(f'{root}/{{00002,00000}}.tar') == [every[2], every[0]]
    assert expand_urls([every[1], pattern]) == [every[1], *every]
    assert expand_urls('https://host/a*{0..2}.tar') == [f'https://host/a*{i}.tar' for i in range(3)]
    assert expand_urls('pipe:cat a?b.tar') == ['pipe:cat a?b.tar']
    with pytest.raises(FileNotFoundError, match='no shard matches'):
        expand_urls(f'{root}/x*.tar')
    with pytest.raises(ValueError, match='names no shard'):
        expand_urls([])


def test_a_bracket_in_a_path_is_no_wildcard(tmp_path, tools):
    folder = tmp_path / 'a[1]'
    folder.mkdir()
    path = tools.write_tar(folder / 'x.tar', {'0': tools.good(0)})
    assert expand_urls(path) == [path]


def test_kinds_of_urls():
    assert is_indexable('/a/b.tar')
    assert not is_indexable('pipe:cat /a/b.tar')
    assert not is_indexable('s3://bucket/b.tar')
    assert not is_indexable('/a/b.tar.gz')
    assert shard_name('https://host/folder/b.tar') == 'b.tar'


def test_shards_are_scanned_once(make_shards, monkeypatch):
    shards = expand_urls(make_shards(3, 0, 5))
    assert [entry['samples'] for entry in count_samples(shards)] == [3, 0, 5]
    index = os.path.join(os.path.dirname(shards[0]), INDEX_NAME)
    assert json.loads(Path(index).read_text())['00002.tar']['samples'] == 5
    monkeypatch.setattr(shard_counts, 'scan_shard', None)
    assert [entry['samples'] for entry in count_samples(shards)] == [3, 0, 5]


def test_a_changed_shard_is_scanned_again(make_shards, tools):
    shards = expand_urls(make_shards(3, 4))
    count_samples(shards)
    tools.write_tar(shards[0], {'0': tools.good(0)})
    assert [entry['samples'] for entry in count_samples(shards)] == [1, 4]


def test_a_damaged_index_is_replaced(make_shards):
    shards = expand_urls(make_shards(3))
    index = os.path.join(os.path.dirname(shards[0]), INDEX_NAME)
    with open(index, 'w') as file:
        file.write('{"0000')
    assert count_samples(shards)[0]['samples'] == 3
    assert json.loads(Path(index).read_text())['00000.tar']['samples'] == 3


def test_index_dir_and_folders_that_cannot_be_written(make_shards, tmp_path, monkeypatch):
    shards = expand_urls(make_shards(2))
    folder = os.path.dirname(shards[0])
    count_samples(shards, str(tmp_path / 'index'))
    assert INDEX_NAME not in os.listdir(folder)
    assert len(os.listdir(tmp_path / 'index')) == 1
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    os.chmod(folder, 0o555)
    count_samples(shards)
    os.chmod(folder, 0o755)
    assert INDEX_NAME not in os.listdir(folder)
    assert len(os.listdir(tmp_path / 'cache/mmmaskclip/index')) == 1
    monkeypatch.setattr(shard_counts, 'scan_shard', None)
    assert count_samples(shards)[0]['samples'] == 2


def test_damage_is_part_of_the_index(make_shards):
    shards = expand_urls(make_shards(8, 1))
    with open(shards[0], 'r+b') as file:
        file.truncate(9000)
    os.remove(shards[1])
    broken, lost = count_samples(shards)
    assert broken['cause'] == 'broken_tar'
    assert 0 < broken['samples'] < 8
    assert lost['cause'] == 'unreadable_shard'
    assert lost['samples'] == 0


def _count_on_one_rank(folder, shards):
    torch.distributed.init_process_group('gloo')
    scanned = []
    scan = shard_counts.scan_shard
    shard_counts.scan_shard = lambda path: scanned.append(path) or scan(path)
    counts = [entry['samples'] for entry in count_samples(shards)]
    (folder / f'rank{torch.distributed.get_rank()}').write_text(json.dumps([counts, len(scanned)]))


def test_ranks_share_the_scan(make_shards, tmp_path):
    shards = expand_urls(make_shards(1, 2, 3, 4, 5))
    run_ranks(_count_on_one_rank, tmp_path, shards)
    results = [json.loads((tmp_path / f'rank{rank}').read_text()) for rank in range(2)]
    assert results == [[[1, 2, 3, 4, 5], 3], [[1, 2, 3, 4, 5], 2]]
