import io
import os
import tarfile

import pytest

from mmmaskclip.datasets import ImageTextShards
from mmmaskclip.datasets.training import preflight, shard_reading


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch):
    monkeypatch.setattr(shard_reading, 'FIRST_WAIT', 0)


def _check(tools, urls, **kwargs):
    ImageTextShards(urls, views=tools.views, **kwargs).preflight()


def test_good_shards_pass(make_shards, tools):
    pattern = make_shards(2, 1)
    _check(tools, pattern)
    _check(tools, pattern, caption_key=['other', 'json:captions'])
    _check(tools, [f'pipe:cat {pattern}'.replace('*', '00000')], num_samples=2)


def test_a_command_that_does_not_end_is_not_waited_for(make_shards, tools):
    path = make_shards(3).replace('*', '00000')
    _check(tools, f'pipe:cat {path}; exec sleep 10000', num_samples=3)


def test_every_fault_is_named(make_shards, tools, tmp_path):
    pattern = make_shards(1, 0, 1, 1, 1, 1)
    path = [pattern.replace('*', f'0000{i}') for i in range(6)]
    tools.write_tar(path[2], {'0': {'png16': b'', 'txt': b'x'}})
    tools.write_tar(path[3], {'0': {'jpg': b'', 'cls': b'3'}})
    with open(path[4], 'wb') as file:
        file.write(b'<html>404</html>' * 64)
    os.remove(path[5])
    urls = [*path, f'pipe:cat {path[5]}']
    with pytest.raises(ValueError, match='6 of 7 shards cannot be used') as caught:
        _check(tools, urls, num_samples=10)
    text = str(caught.value)
    assert f'{path[0]}:' not in text
    assert f'{path[1]}: empty' in text
    assert f"{path[2]}: no image: expected one of ['jpg', 'jpeg', 'png', 'webp'], found png16, txt" in text
    assert f'{path[3]}: no caption: expected txt, no txt among cls, jpg' in text
    assert f'{path[4]}: unreadable: no valid header at byte 0' in text
    assert f'{path[5]}: unreadable: FileNotFoundError' in text
    assert f'pipe:cat {path[5]}: unreadable' in text
    assert 'set image_keys and caption_key' in text


def test_a_bad_first_image_is_no_fault_of_the_shard(tmp_path, tools):
    _check(tools, tools.write_tar(tmp_path / 'a.tar', {'0': tools.bad('html')[0], '1': tools.good(1)}))


def _write(path, names):
    with tarfile.open(path, 'w') as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return str(path)


@pytest.mark.parametrize('pipe', ['', 'pipe:cat '])
def test_files_that_are_not_side_by_side_are_said_to_be_so(tmp_path, tools, pipe):
    number = {'num_samples': 9} if pipe else {}
    ordered = [f'{i}.{kind}' for kind in ('jpg', 'txt') for i in range(9)]
    with pytest.raises(ValueError, match=r"The files of '0' are not side by side: txt come later. Write .* tar --sort"):
        _check(tools, pipe + _write(tmp_path / 'a.tar', ordered), **number)
    folders = [f'images/{i}.jpg' for i in range(9)] + [f'captions/{i}.txt' for i in range(9)]
    with pytest.raises(ValueError, match=r"The files of '0' are not side by side: txt come later \(captions/0\)"):
        _check(tools, pipe + _write(tmp_path / 'b.tar', folders), **number)
    with pytest.raises(ValueError, match=r'found v2\.jpg, v2\.txt \(a name ends at its first dot: rename'):
        _check(tools, pipe + _write(tmp_path / 'c.tar', ['a1.v2.jpg', 'a1.v2.txt']), **number)


def test_a_readme_in_front_is_no_fault(tmp_path, tools):
    _check(tools, tools.write_tar(tmp_path / 'a.tar', {'README': {'txt': b'notes'}, '1': tools.good(1)}))


def test_percent_encoded_captions_are_said(tmp_path, tools, monkeypatch):
    said = []
    monkeypatch.setattr(preflight, 'print_log', lambda text, **kwargs: said.append(text))
    for name, texts in (('a', ['denise%27s+peanut', 'here%3A+x', '50% off']), ('b', ['100%', 'a cat', '%27'])):
        urls = [
            tools.write_tar(tmp_path / f'{name}{i}.tar', {'0': {**tools.good(0), 'txt': text.encode()}})
            for i, text in enumerate(texts)
        ]
        _check(tools, urls)
    assert len(said) == 1
    assert "2 of 3 first captions look percent-encoded, e.g. 'denise%27s+peanut'" in said[0]


def test_a_missing_json_field_is_named(make_shards, tools):
    with pytest.raises(ValueError, match='no caption: expected json:text, no json:text among jpg, json, txt'):
        _check(tools, make_shards(1), caption_key='json:text')


def test_long_lists_are_cut(make_shards, tools):
    with pytest.raises(ValueError, match=r'\.\.\. and 5 more'):
        _check(tools, make_shards(*[0] * 24, 1), num_samples=1, image_keys=('gif',))


def test_of_many_shards_some_are_looked_at(make_shards, tools, monkeypatch):
    looked = []
    look = preflight._look
    monkeypatch.setattr(preflight, '_look', lambda url, *args: looked.append(url) or look(url, *args))
    monkeypatch.setattr(preflight, 'MOST_CHECKED', 3)
    _check(tools, make_shards(*[1] * 9))
    assert sorted(os.path.basename(url) for url in looked) == ['00000.tar', '00004.tar', '00008.tar']


def test_a_store_that_refuses_once_is_asked_again(make_shards, tools, tmp_path):
    path = make_shards(2).replace('*', '00000')
    flag = tmp_path / 'asked'
    _check(tools, f'pipe:test -e {flag} || {{ touch {flag}; exit 9; }}; cat {path}', num_samples=2)
