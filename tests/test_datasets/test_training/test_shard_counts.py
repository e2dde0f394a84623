import json
import os
import threading
from pathlib import Path

import pytest
import torch
from ranks import run_ranks

from mmmaskclip.datasets.training import shard_counts
from mmmaskclip.datasets.training.captions import CaptionReader
from mmmaskclip.datasets.training.preflight import check_shards
from mmmaskclip.datasets.training.seen_counts import SeenCounts
from mmmaskclip.datasets.training.shard_counts import (
    INDEX_NAME,
    check_same_shards,
    count_samples,
    estimate_samples,
    read_counts,
)
from mmmaskclip.datasets.training.shard_urls import expand_urls


def _count(shards, *args):
    return count_samples(shards, *args).samples.tolist()


def _index(shards):
    return json.loads(Path(os.path.dirname(shards[0]), INDEX_NAME).read_text())


def test_shards_are_scanned_once(make_shards, monkeypatch):
    shards = expand_urls(make_shards(3, 0, 5))
    assert _count(shards) == [3, 0, 5]
    assert _index(shards)['00002.tar'][2] == 5
    monkeypatch.setattr(shard_counts, 'scan_shard', None)
    assert _count([*shards, shards[0]]) == [3, 0, 5, 3]
    assert [name for name in os.listdir(os.path.dirname(shards[0])) if 'rank' in name] == []


def test_a_changed_shard_is_scanned_again(make_shards, tools):
    shards = expand_urls(make_shards(3, 4))
    _count(shards)
    tools.write_tar(shards[0], {'0': tools.good(0)})
    assert _count(shards) == [1, 4]
    assert _count(shards) == [1, 4]


@pytest.mark.parametrize('content', ['{"0000', '[]', '{"00000.tar": {"samples": 7}}', '{"00000.tar": [1, 2]}'])
def test_a_damaged_index_is_replaced(make_shards, content):
    shards = expand_urls(make_shards(3))
    Path(os.path.dirname(shards[0]), INDEX_NAME).write_text(content)
    assert _count(shards) == [3]
    assert _index(shards)['00000.tar'][2] == 3


def test_a_first_answer_comes_from_one_shard_its_notes_or_the_index(make_shards, monkeypatch):
    shards = expand_urls(make_shards(6, *[3] * 79, 9))
    scan, scanned = shard_counts.scan_shard, []
    monkeypatch.setattr(shard_counts, 'scan_shard', lambda path: scanned.append(path) or scan(path))
    number, exact = estimate_samples(shards)
    # Of as many bytes a sample in each shard; tar files of so few samples are mostly padding.
    assert (scanned, exact) == ([shards[0]], False)
    assert 250 < number < 1000
    for shard in shards:
        Path(shard).with_name(f'{Path(shard).stem}_stats.json').write_text('{"successes": 3}')
    assert estimate_samples(shards) == (pytest.approx(3 * 81, abs=1), False)
    assert len(scanned) == 1
    # As many as are looked at: what the index has is exact, of the first it is counted.
    assert estimate_samples(shards[1:2]) == (3, False)
    Path(shards[1]).with_name('00001_stats.json').unlink()
    assert estimate_samples(shards[1:2]) == (3, True)
    _count(shards[:9])
    scanned.clear()
    assert estimate_samples(shards[:9]) == (6 + 8 * 3, True)
    assert scanned == []


def test_an_interrupted_count_goes_on_where_it_was(make_shards, monkeypatch):
    shards = expand_urls(make_shards(1, 2, 3, 4))
    scan, scanned = shard_counts.scan_shard, []

    def killed(path):
        if len(scanned) == 2:
            raise KeyboardInterrupt
        scanned.append(path)
        return scan(path)

    monkeypatch.setattr(shard_counts, '_THREADS', 1)
    monkeypatch.setattr(shard_counts, '_FLUSH', -1)
    monkeypatch.setattr(shard_counts, 'scan_shard', killed)
    with pytest.raises(KeyboardInterrupt):
        count_samples(shards)
    part = Path(os.path.dirname(shards[0]), f'{INDEX_NAME}.rank0')
    # Half a line, as a killed process leaves it.
    part.write_text(part.read_text() + '["00003.tar", [1')
    scanned.clear()
    monkeypatch.setattr(shard_counts, 'scan_shard', lambda path: scanned.append(path) or scan(path))
    assert _count(shards) == [1, 2, 3, 4]
    assert scanned == shards[2:]
    assert not part.exists()
    assert len(_index(shards)) == 4


def test_notes_of_img2dataset_are_believed_once_they_are_proved(make_shards, monkeypatch):
    shards = expand_urls(make_shards(*[2] * 6))
    for path in shards:
        Path(path.replace('.tar', '_stats.json')).write_text('{"count": 9, "successes": 2}')
    scan, scanned = shard_counts.scan_shard, []
    monkeypatch.setattr(shard_counts, 'scan_shard', lambda path: scanned.append(path) or scan(path))
    assert _count(shards) == [2] * 6
    assert scanned == shards[:3]
    for path in shards:
        os.utime(path, (1, 1))
        Path(path.replace('.tar', '_stats.json')).write_text('{"count": 9, "successes": 8}')
    assert _count(shards) == [2] * 6


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
    assert _count(shards) == [2]


def test_damage_is_counted_in_samples(make_shards):
    shards = expand_urls(make_shards(40, 1, 40))
    size = os.path.getsize(shards[0])
    with open(shards[0], 'r+b') as file:
        file.truncate(size // 4 + 100)
    os.remove(shards[1])
    for _ in range(2):  # scanned, and from the index
        counts = count_samples(shards)
        kept = int(counts.samples[0])
        assert counts.samples.tolist() == [kept, 0, 40]
        assert 0 < kept < 12
        broken, missing = counts.records(shards)
        assert (broken['cause'], broken['shard']) == ('broken_tar', '00000.tar')
        # Of what is left of the file nothing more than its size is known.
        assert 1 <= broken.get('samples', 1) < 40
        assert (missing['cause'], missing['samples']) == ('unreadable_shard', 40 + kept)


def test_counts_that_somebody_else_has_made(tmp_path):
    urls = [f'pipe:aws s3 cp s3://bucket/a/{i:05d}.tar -' for i in range(3)]
    (tmp_path / 'counts.json').write_text('{"00000.tar": 7, "00001.tar": 0, "00002.tar": 3, "x.tar": 1}')
    assert read_counts(str(tmp_path / 'counts.json'), urls).samples.tolist() == [7, 0, 3]
    for i in range(3):
        (tmp_path / f'{i:05d}_stats.json').write_text(f'{{"successes": {i}}}')
    assert read_counts(str(tmp_path), urls).samples.tolist() == [0, 1, 2]
    (tmp_path / 'counts.json').write_text('{"00000.tar": 7, "00001.tar": null}')
    with pytest.raises(ValueError, match='no number of samples for 2 of 3 shards: 00001.tar, 00002.tar'):
        read_counts(str(tmp_path / 'counts.json'), urls)


def test_seen_counts_are_for_all_processes(tmp_path):
    seen = [SeenCounts(['a', 'b'], str(tmp_path)) for _ in range(2)]
    seen[0].add(1, 5)
    seen[1].add(0, 7)
    again = SeenCounts(['a', 'b'], str(tmp_path))
    assert [again.get(0), again.get(1)] == [7, 5]
    assert SeenCounts(['b', 'a'], str(tmp_path)).get(0) is None


def _count_on_one_rank(folder, shards):
    torch.distributed.init_process_group('gloo')
    scanned = []
    scan = shard_counts.scan_shard
    shard_counts.scan_shard = lambda path: scanned.append(path) or scan(path)
    counts = count_samples(shards).samples.tolist()
    rank = torch.distributed.get_rank()
    # The others hear of it on the store, and do not wait for this rank in a collective.
    entries, shard_counts._entries = shard_counts._entries, lambda *_: 1 / rank and ()
    with pytest.raises((ZeroDivisionError, RuntimeError)) as failed:
        count_samples(shards)
    assert str(failed.value) == f'{"" if rank == 0 else "On rank 0: ZeroDivisionError: "}division by zero'
    shard_counts._entries = entries
    check_same_shards(shards)
    try:
        check_same_shards(shards if rank == 0 else shards[1:])
    except ValueError as error:
        message = str(error)
    try:
        check_shards(shards, ['gif'], CaptionReader('txt'))
    except ValueError as error:
        message += str(error)
    (folder / f'rank{rank}').write_text(json.dumps([counts, len(scanned), message]))


def test_ranks_that_find_other_shards_are_named_with_examples_on_all_ranks(monkeypatch):
    """Threads stand in for ranks."""
    lists = [['a', 'b', 'c'], ['a', 'b', 'c'], ['b', 'c'], ['a', 'b', 'c', 'd'], ['c', 'b', 'a']]
    here, barrier, sent, errors = threading.local(), threading.Barrier(len(lists), timeout=20), {}, {}

    def all_gather(value):
        sent[here.rank] = value
        barrier.wait()
        gathered = [sent[rank] for rank in range(len(lists))]
        barrier.wait()
        return gathered

    def broadcast(values):
        values[0] = all_gather(values[0])[0]

    monkeypatch.setattr(shard_counts, 'get_rank', lambda: here.rank)
    monkeypatch.setattr(shard_counts, 'all_gather_object', all_gather)
    monkeypatch.setattr(shard_counts, 'broadcast_object_list', broadcast)
    monkeypatch.setattr(shard_counts, 'gather_on_store', lambda value, title: all_gather(value))
    monkeypatch.setattr(shard_counts.socket, 'gethostname', lambda: f'node{here.rank // 2}')

    def run(rank):
        here.rank = rank
        with pytest.raises(ValueError, match='Ranks find other shards') as error:
            check_same_shards(lists[rank])
        errors[rank] = str(error.value)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(lists))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [errors.get(rank) for rank in range(len(lists))] == [errors[0]] * len(lists)
    first, *lines, last = errors[0].splitlines()
    assert first == 'Ranks find other shards than rank 0 on node0, which finds 3:'
    assert lines == [
        '  rank 2 on node1: 2 shards, without a', '  rank 3 on node1: 4 shards, with d',
        '  rank 4 on node2: 3 shards, in another order',
    ]  # fmt: skip
    assert 'braces' in last


def test_ranks_share_the_scan_and_must_find_the_same_shards(make_shards, tmp_path):
    shards = expand_urls(make_shards(1, 2, 3, 4, 5))
    run_ranks(_count_on_one_rank, tmp_path, shards)
    results = [json.loads((tmp_path / f'rank{rank}').read_text()) for rank in range(2)]
    assert [result[:2] for result in results] == [[[1, 2, 3, 4, 5], 3], [[1, 2, 3, 4, 5], 2]]
    for _, _, message in results:
        assert 'which finds 5' in message
        assert 'rank 1 on' in message
        assert f'4 shards, without {shards[0]}' in message
        # Of the check before training, too, each rank takes a share, and all get all that is found.
        assert '5 of 5 shards cannot be used' in message
