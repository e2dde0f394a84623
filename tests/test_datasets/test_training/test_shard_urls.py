import os

import pytest

from mmmaskclip.datasets.training.shard_urls import expand_urls, is_indexable, shard_name


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


def test_a_folder_is_its_tar_files(make_shards, tmp_path):
    root = os.path.dirname(make_shards(1, 1))
    assert expand_urls(root) == expand_urls(f'{root}/') == [f'{root}/0000{i}.tar' for i in range(2)]
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos/a.jpg').touch()
    with pytest.raises(FileNotFoundError, match=r"photos' has no \.tar file, but a\.jpg\. For other .*make_shards"):
        expand_urls(str(tmp_path / 'photos'))


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
