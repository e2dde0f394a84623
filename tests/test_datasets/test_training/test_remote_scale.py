"""200,000 remote shards, simulated: a store that answers from memory, with failures, and counts what is asked of it."""

import json
import os
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ranks import run_ranks

from mmmaskclip.datasets import ImageTextShards
from mmmaskclip.datasets.sampling import lost_samples
from mmmaskclip.datasets.training import image_text_shards, shard_reading
from mmmaskclip.datasets.training.seen_counts import SeenCounts
from mmmaskclip.datasets.training.shard_streams import (
    CountedRange,
    SequentialSource,
    ShuffledReader,
    permuted_shards,
)
from mmmaskclip.datasets.training.tar_files import Sample

SHARDS = 200_000


class Store:
    """Shards ``s3://b/NUMBER.tar``: how many samples each has, when it fails, and what was read of it.

    Args:
        counts: Samples in each.
        fails: Called with shard and attempt; gives after how many samples the connection breaks, None for never.
    """

    def __init__(self, counts, fails=lambda shard, attempt: None):
        self.counts, self.fails = counts, fails
        self.opened, self.read = Counter(), Counter()

    def open_shard(self, url):
        shard = int(url.rpartition('/')[2].partition('.')[0])
        self.opened[shard] += 1
        broken = self.fails(shard, self.opened[shard])
        for index in range(self.counts[shard]):
            if index == broken:
                raise ConnectionError('the store is away')
            self.read[shard] += 1
            yield Sample(f'{index:05d}', {'jpg': b'', 'txt': b''})
        if broken is not None and broken >= self.counts[shard]:
            raise ConnectionError('the store is away')


@pytest.fixture
def use(monkeypatch):
    """Let all readers use a store; waits take no time and are kept."""
    waits = []
    monkeypatch.setattr(shard_reading, 'time', SimpleNamespace(sleep=waits.append))
    monkeypatch.setattr(shard_reading, 'print_log', lambda *args, **kwargs: None)

    def use(store):
        monkeypatch.setattr(shard_reading, 'open_shard', store.open_shard)
        return store

    use.waits = waits
    return use


URLS = [f's3://b/{i}.tar' for i in range(SHARDS)]


@pytest.fixture(scope='module')
def counts():
    return np.random.default_rng(0).integers(5, 40, SHARDS)


@pytest.fixture(scope='module')
def order():
    return permuted_shards(SHARDS, 0, 3)


def _draw(source, total, skip, seed=1):
    reader = ShuffledReader(source, 50, seed, total, skip)
    return [(raw.shard, raw.index, raw.error) for raw in reader]


@pytest.mark.parametrize('known', [True, False])
def test_resume_at_90_percent_reads_no_shard_of_the_past(use, counts, order, known, tmp_path):
    """One stream of 256, as after a restart: with counts that are given, and with those that were seen on the way."""
    stream, streams = 77, 256

    def source(seen):
        if known:
            total = int(counts.sum()) // streams
            return CountedRange(URLS, counts, order, stream * total, (stream + 1) * total, {'jpg', 'txt'}), total
        total = 12_000
        return SequentialSource(URLS, order, stream, streams, total, counts.mean(), seen), total

    whole = use(Store(counts))
    first, total = source(SeenCounts(URLS[:2], str(tmp_path)))
    drawn = _draw(first, total, 0)
    assert len(drawn) == total
    assert len({sample[:2] for sample in drawn}) == total
    skip = total * 9 // 10
    rest = use(Store(counts))
    began = time.process_time()
    again = _draw(source(SeenCounts(URLS[:2], str(tmp_path)))[0], total, skip)
    assert time.process_time() - began < 30
    assert again == drawn[skip:]
    # What is left, the current shard from its beginning, and the shards of what still waits in the buffer.
    assert sum(rest.read.values()) <= total - skip + 10 * int(counts.max())
    assert len(rest.opened) < 0.15 * len(whole.opened)


def test_an_outage_is_counted_in_samples(use, counts, order):
    """A store that breaks every tenth shard off for good: each lost sample is counted, none stands in for another."""
    use(Store(counts, lambda shard, attempt: 2 if shard % 10 == 0 else None))
    total = 8000
    source = CountedRange(URLS, counts, order, 0, total, {'jpg'})
    drawn = _draw(source, total, 0)
    lost = [sample for sample in drawn if sample[2] is not None]
    touched = [(shard, low, high) for shard, low, high, _ in source._parts if shard % 10 == 0]
    assert len(lost) == sum(high - max(low, 2) for _, low, high in touched) > 400
    assert Counter(event['cause'] for event in source.take_events()) == {'retried_shard': 5 * len(touched)}
    # Without counts of their own the shards' mean tells how many are lost, and the stream starts over in their stead.
    few, ten = URLS[:40], np.full(40, 10)
    use(Store(ten, lambda shard, attempt: 2 if shard % 4 == 0 else None))
    source = SequentialSource(few, list(range(40)), 0, 1, 400, 10.0)
    assert len(_draw(source, 400, 0)) == 400
    events = source.take_events()
    causes = Counter()
    for event in events:
        causes[event['cause']] += event.get('samples', 1)
    # Ten shards lose 8 of their 10 samples; then a part of the second lap, with its losses.
    assert causes['repeated_sample'] == 80
    first_lap = [event for event in events if event['cause'] == 'broken_tar'][:10]
    assert lost_samples(first_lap) == 80


def test_delays_are_waited_for(use, counts, order):
    store = use(Store(counts, lambda shard, attempt: 3 if attempt < 4 else None))
    drawn = _draw(CountedRange(URLS, counts, order, 100, 400, {'jpg'}), 300, 0)
    assert [sample for sample in drawn if sample[2] is not None] == []
    assert len(set(drawn)) == 300
    assert max(store.opened.values()) == 4
    assert set(use.waits) == {1.0, 2.0, 4.0}


def test_a_stream_that_cannot_get_its_shards_stops_with_their_names(use, counts, order):
    use(Store(counts, lambda shard, attempt: 0 if shard != order[0] else None))
    for source in (
        CountedRange(URLS, counts, order, 0, 2000, {'jpg'}),
        SequentialSource(URLS, order, 0, 256, 2000, 20.0),
    ):
        names = [name for name in source.names() if name != f'{order[0]}.tar'][:3]
        with pytest.raises(RuntimeError, match=r'3 shards in a row gave no sample.*resume with --resume') as caught:
            _draw(source, 2000, 0)
        assert all(f'{name}: after 0 samples: ConnectionError' in str(caught.value) for name in names)


def _epochs_of_one_rank(folder, number, start):
    torch.distributed.init_process_group('gloo')
    os.environ['XDG_CACHE_HOME'] = str(folder / 'cache')
    image_text_shards.get_worker_info = lambda: None
    results = {}
    for given in (str(folder / 'counts.json'), 8 * number):
        for begin in (0, start):
            store = Store([8] * number)
            shard_reading.open_shard = store.open_shard
            urls = f's3://b/{{0..{number - 1}}}.tar'
            dataset = ImageTextShards(urls, {'image': []}, num_samples=given, shuffle_buffer=10)
            dataset.make_sample = lambda raw, seed: {'key': f'{raw.shard}/{raw.index}', 'seed': seed}
            dataset.begin_epoch(2, 5, 4, begin)
            keys = [[sample['key'], sample['seed']] for sample in dataset]
            results[f'{type(given).__name__} {begin}'] = keys, len(dataset) // 4, sum(store.read.values())
    (folder / f'rank{torch.distributed.get_rank()}.json').write_text(json.dumps(results))


def test_two_ranks_go_on_at_90_percent_of_an_epoch(tmp_path):
    number, start = 100, 90
    (tmp_path / 'counts.json').write_text(json.dumps({f'{i}.tar': 8 for i in range(number)}))
    run_ranks(_epochs_of_one_rank, tmp_path, number, start)
    for given in ('str', 'int'):
        every = set()
        for rank in range(2):
            results = json.loads((tmp_path / f'rank{rank}.json').read_text())
            full, batches, read = results[f'{given} 0']
            rest, _, read_again = results[f'{given} {start}']
            assert batches == 100
            assert rest == full[4 * start :]
            assert read >= 400
            assert read_again <= 4 * (batches - start) + 8 * 8
            every |= {key for key, _ in full}
        assert len(every) == 8 * number
