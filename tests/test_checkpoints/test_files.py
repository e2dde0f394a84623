import errno
import os
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from mmmaskclip.checkpoints import files as checkpoint_files
from mmmaskclip.checkpoints.files import (
    BackgroundWriter,
    newest_verified,
    plain,
    remove_checkpoint,
    remove_remains,
    verify_checkpoint,
    write_checkpoint,
    write_last_checkpoint,
)
from mmmaskclip.checkpoints.safe_load import read_checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'iter_5.pth'


def value(number):
    return {'state_dict': {'weight': torch.full((3000,), float(number))}, 'meta': {'iter': number}}


def stored(path):
    return read_checkpoint(path)['meta']['iter']


def flip_bit(path, where=0.5):
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1
    path.write_bytes(data)


def test_file_has_a_checksum_that_sha256sum_reads_and_nothing_else_is_left(path):
    write_checkpoint(path, value(5))
    assert sorted(file.name for file in path.parent.iterdir()) == ['iter_5.pth', 'iter_5.pth.sha256']
    assert Path(f'{path}.sha256').read_text() == f'# save 1\n{checkpoint_files.sha256_of(path)}  iter_5.pth\n'
    if shutil.which('sha256sum'):
        subprocess.run(['sha256sum', '--check', '--strict', 'iter_5.pth.sha256'], cwd=path.parent, check=True)
    assert verify_checkpoint(path) is None
    assert torch.equal(read_checkpoint(path)['state_dict']['weight'], torch.full((3000,), 5.0))


@pytest.mark.parametrize('sidecar', [True, False])
@pytest.mark.parametrize('damage', ['truncated', 'flipped', 'empty', 'gone'])
def test_damage_is_found_with_and_without_a_checksum(path, damage, sidecar):
    write_checkpoint(path, value(5))
    if not sidecar:
        Path(f'{path}.sha256').unlink()
        assert verify_checkpoint(path) is None
    if damage == 'flipped':
        flip_bit(path)
    elif damage == 'gone':
        path.unlink()
    else:
        os.truncate(path, 0 if damage == 'empty' else path.stat().st_size // 2)
    assert verify_checkpoint(path)
    if damage in ('truncated', 'empty'):
        with pytest.raises(ValueError, match=r'iter_5\.pth.* damaged or no checkpoint'):
            read_checkpoint(path)


class Killed(BaseException):
    """Stands for SIGKILL: unlike errors, nothing in the code catches it."""


@pytest.mark.parametrize('with_sidecar', [True, False])
@pytest.mark.parametrize('call', range(8))
def test_wherever_replacing_a_file_stops_the_file_is_whole(path, monkeypatch, call, with_sidecar):
    write_checkpoint(path, value(1))
    if not with_sidecar:
        Path(f'{path}.sha256').unlink()
    calls = []

    def stops(function):
        def stopping(*args):
            calls.append(function)
            if len(calls) == call + 1:
                raise Killed
            return function(*args)

        return stopping

    monkeypatch.setattr(os, 'replace', stops(os.replace))
    monkeypatch.setattr(os, 'fsync', stops(os.fsync))
    try:
        write_checkpoint(path, value(2))
    except Killed:
        assert stored(path) in (1, 2)
    else:
        assert stored(path) == 2
    assert call < len(calls) or call >= 7  # each call of the writer was stopped at
    monkeypatch.undo()
    assert verify_checkpoint(path) is None


@pytest.mark.parametrize('after', [0, 1000, 10**9])
def test_full_disk_leaves_the_earlier_file(path, monkeypatch, after):
    write_checkpoint(path, value(1))
    written = []

    class Full:
        def __init__(self, name, mode):
            self.file = open(name, mode)  # noqa: SIM115 - closed by close()

        def write(self, data):
            written.append(len(data))
            if sum(written) > after:
                raise OSError(errno.ENOSPC, 'No space left on device')
            return self.file.write(data)

        def flush(self):
            raise OSError(errno.ENOSPC, 'No space left on device')

        def close(self):
            self.file.close()

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, 'open', lambda name, mode, **_: Full(name, mode), raising=False)
        with pytest.raises(OSError, match='No space left') as caught:
            write_checkpoint(path, value(2))
    assert caught.value.errno == errno.ENOSPC
    assert sorted(file.name for file in path.parent.iterdir()) == ['iter_5.pth', 'iter_5.pth.sha256']
    assert verify_checkpoint(path) is None
    assert stored(path) == 1


def test_newest_is_the_highest_that_is_whole(tmp_path):
    assert newest_verified(tmp_path) == (None, [])
    paths = [tmp_path / f'iter_{number}.pth' for number in (9, 10, 11)]
    for number, path in enumerate(paths):
        write_checkpoint(path, value(number))
    write_checkpoint(tmp_path / 'best_retrieval_iter_99.pth', value(99))
    assert newest_verified(tmp_path) == (str(paths[2]), [])
    flip_bit(paths[2])
    os.truncate(paths[1], 100)
    newest, damaged = newest_verified(tmp_path)
    assert newest == str(paths[0])
    assert [path for path, _ in damaged] == [str(paths[2]), str(paths[1])]
    assert all('do not match their checksum' in problem for _, problem in damaged)


def test_newest_is_the_one_saved_last_whatever_its_number_and_time(tmp_path):
    # Gone back from 100, or on from 10 with a larger batch; then copied, with times of the copy.
    for number in (10, 100, 12, 15):
        write_checkpoint(tmp_path / f'iter_{number}.pth', value(number))
        os.utime(tmp_path / f'iter_{number}.pth', (1000 - number, 1000 - number))
    write_last_checkpoint(tmp_path, tmp_path / 'iter_100.pth')  # killed before the newest was named
    order = []
    for _ in range(4):
        order.append(Path(newest_verified(tmp_path)[0]).name)
        remove_checkpoint(tmp_path / order[-1])
    assert order == ['iter_15.pth', 'iter_12.pth', 'iter_100.pth', 'iter_10.pth']


@pytest.mark.parametrize('stop', ['before', 'after'])
def test_newest_if_the_process_was_killed_while_it_replaced_an_older_file(tmp_path, monkeypatch, stop):
    for number in (12, 6):
        write_checkpoint(tmp_path / f'iter_{number}.pth', value(number))
    replace, path = os.replace, tmp_path / 'iter_12.pth'

    def replacing(source, target):
        if Path(target) == path:
            if stop == 'after':
                replace(source, target)
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, 'replace', replacing)
    with pytest.raises(Killed):
        write_checkpoint(path, value(13))
    assert stored(newest_verified(tmp_path)[0]) == (6 if stop == 'before' else 13)


def test_newest_of_mmengines_files_is_the_named_one_and_ours_are_newer(tmp_path):
    for number in (10, 9, 100):
        torch.save(value(number), tmp_path / f'iter_{number}.pth')
    assert newest_verified(tmp_path)[0] == str(tmp_path / 'iter_100.pth')
    write_last_checkpoint(tmp_path, '/moved/since/iter_10.pth')
    assert newest_verified(tmp_path)[0] == str(tmp_path / 'iter_10.pth')
    write_last_checkpoint(tmp_path, 'removed_since.pth')
    assert newest_verified(tmp_path)[0] == str(tmp_path / 'iter_100.pth')
    write_checkpoint(tmp_path / 'named_5_by_a_template.pth', value(5))
    write_checkpoint(tmp_path / 'best_retrieval_iter_5.pth', value(5))
    assert newest_verified(tmp_path)[0] == str(tmp_path / 'named_5_by_a_template.pth')


@pytest.mark.parametrize('content', [b'', b'\xff\x00\n \n', b'iter_5.pth' * 999])
def test_what_lies_beside_a_checkpoint_may_be_damaged(path, content):
    write_checkpoint(path, value(5))
    (path.parent / 'last_checkpoint').write_bytes(content)
    assert newest_verified(path.parent) == (str(path), [])
    Path(f'{path}.sha256').write_bytes(content)
    assert newest_verified(path.parent) == (str(path), [])
    flip_bit(path)
    assert newest_verified(path.parent)[0] is None


def test_no_damage_of_a_file_without_a_checksum_ends_the_search(tmp_path):
    for number in (1, 2):
        torch.save(value(number), tmp_path / f'iter_{number}.pth')
    whole = (tmp_path / 'iter_2.pth').read_bytes()
    headers = [*range(64), *range(len(whole) - 400, len(whole))]
    for place in random.Random(0).sample(headers, 80):
        for bits in (1, 8, 255):
            (tmp_path / 'iter_2.pth').write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :])
            assert newest_verified(tmp_path)[0]


def test_what_is_not_plain_is_left_out_and_the_rest_read_as_it_was(path):
    history = HistoryBuffer([1.5, 2.5], [1, 2])
    content = {
        'message_hub': {'log_scalars': {'loss': history}, 'runtime_info': {'path': Path('a/b')}},
        'numbers': (np.float32(0.5), np.arange(3, dtype=np.uint32), True, None, 2j, b'x', {1, 2}, frozenset({3})),
        'config': ConfigDict(a=[1]),
        'hook': random.Random(),
        'list': [1, object(), 2],
    }
    left_out = []
    write_checkpoint(path, plain(content, left_out))
    assert left_out == ['hook (Random)', 'list.1 (object)']
    read = read_checkpoint(path)
    numbers = read['numbers']
    assert numbers[0] == 0.5
    assert numbers[1].dtype == np.uint32
    assert numbers[1].tolist() == [0, 1, 2]
    assert numbers[2:] == (True, None, 2j, b'x', {1, 2}, {3})
    assert (read['config'], read['list']) == ({'a': [1]}, [1, 2])
    assert read['message_hub']['runtime_info'] == {'path': 'a/b'}
    again = read['message_hub']['log_scalars']['loss']
    assert isinstance(again, HistoryBuffer)
    assert again.current() == 2.5
    assert again.data[1].tolist() == [1, 2]


def test_copy_is_not_changed_by_the_next_step():
    weight = torch.ones(2)
    copied = plain({'weight': weight, 'steps': [1]})
    weight.zero_()
    assert copied['weight'].tolist() == [1, 1]


def test_history_of_an_mmengine_checkpoint_is_read_without_its_class(path):
    torch.save({'message_hub': {'log_scalars': {'loss': HistoryBuffer([3.0], [1])}}}, path)
    assert read_checkpoint(path)['message_hub']['log_scalars']['loss'].current() == 3.0


class _Harmful:
    def __reduce__(self):
        return os.mkdir, ('harm',)


def test_code_in_a_checkpoint_is_not_run(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    torch.save({'meta': _Harmful()}, path)
    with pytest.raises(ValueError, match='refers to posix.mkdir, which could run code'):
        read_checkpoint(path)
    assert not Path('harm').exists()


def test_removes_what_a_killed_save_left_and_nothing_else(tmp_path, path):
    write_checkpoint(path, value(1))
    for name in ('.iter_9.pth.tmp', '.iter_9.pth.sha256.tmp', '.last_checkpoint.tmp', '.other.tmp', 'mine.pth.tmp'):
        (tmp_path / name).touch()
    (tmp_path / 'iter_9.pth.sha256').touch()  # of a file that was not yet, or is no longer there
    remove_remains(tmp_path)
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {'iter_5.pth', 'iter_5.pth.sha256', '.other.tmp', 'mine.pth.tmp'}
    remove_checkpoint(path)
    remove_checkpoint(path)
    assert not path.exists()


def test_checkpoint_is_removed_before_its_checksum(path, monkeypatch):
    write_checkpoint(path, value(1))
    unlink, calls = Path.unlink, []

    def unlinking(file, **kwargs):
        calls.append(file)
        if len(calls) == 2:
            raise Killed
        unlink(file, **kwargs)

    monkeypatch.setattr(Path, 'unlink', unlinking)
    with pytest.raises(Killed):
        remove_checkpoint(path)
    # A file without a checksum would pass for one of mmengine's.
    assert os.listdir(path.parent) == ['iter_5.pth.sha256']


def test_background_writer_raises_the_error_of_its_thread_once():
    writer, done = BackgroundWriter(), []
    writer.start(lambda: done.append(1))
    writer.start(lambda: done.append(1 / 0))
    with pytest.raises(ZeroDivisionError):
        writer.start(lambda: done.append(2))
    writer.wait()
    assert done == [1]
