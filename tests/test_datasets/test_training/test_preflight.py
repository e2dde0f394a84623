import os

import pytest

from mmmaskclip.datasets import ImageTextShards


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
    assert f"{path[2]}: no image: expected one of ['jpg', 'jpeg', 'png', 'webp'], found ['png16', 'txt']" in text
    assert f'{path[3]}: no caption: expected txt, no txt among cls, jpg' in text
    assert f'{path[4]}: unreadable: no valid header at byte 0' in text
    assert f'{path[5]}: unreadable: FileNotFoundError' in text
    assert f'pipe:cat {path[5]}: unreadable' in text
    assert 'set image_keys and caption_key' in text


def test_a_bad_first_image_is_no_fault_of_the_shard(tmp_path, tools):
    _check(tools, tools.write_tar(tmp_path / 'a.tar', {'0': tools.bad('html')[0], '1': tools.good(1)}))


def test_a_missing_json_field_is_named(make_shards, tools):
    with pytest.raises(ValueError, match='no caption: expected json:text, no json:text among jpg, json, txt'):
        _check(tools, make_shards(1), caption_key='json:text')


def test_long_lists_are_cut(make_shards, tools):
    with pytest.raises(ValueError, match=r'\.\.\. and 5 more'):
        _check(tools, make_shards(*[0] * 24, 1), num_samples=1, image_keys=('gif',))
