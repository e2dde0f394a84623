"""Remote shards that fail for a while: read again, from where the samples ended."""

import gzip
import io
import itertools
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from webdataset.gopen import gopen

from mmmaskclip.datasets.training import shard_reading
from mmmaskclip.datasets.training.shard_reading import RETRIES
from mmmaskclip.datasets.training.shard_streams import SequentialSource


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were waited, which take none."""
    seconds = []
    # Not time.sleep itself, with which subprocess waits for a command to end.
    monkeypatch.setattr(shard_reading, 'time', SimpleNamespace(sleep=seconds.append))
    return seconds


@pytest.fixture
def flaky(make_shards, tmp_path):
    """The url of a shard of 6 samples whose first readers fail after the given shares of it."""
    path = make_shards(6).replace('*', '00000')
    numbers = itertools.count()

    def make(*shares):
        size = len(Path(path).read_bytes())
        runs = tmp_path / f'runs{next(numbers)}'
        cases = ''.join(f'{i}) head -c {int(size * share)} {path}; exit 9;; ' for i, share in enumerate(shares))
        return (
            f'pipe:touch {runs}; n=$(wc -c < {runs}); printf x >> {runs}; '
            f'case $n in {cases} *) exec cat {path};; esac # /a.tar'
        )

    return make


def _read(url, stream=0, num_streams=1):
    source = SequentialSource([url], [0], stream, num_streams)
    return [sample.index for sample in source.one_lap()], source.take_events()


def test_goes_on_after_the_samples_it_has_given(flaky, waits):
    order, events = _read(flaky(0.3, 0.7))
    assert order == [0, 1, 2, 3, 4, 5]
    assert [event['cause'] for event in events] == ['retried_shard'] * 2
    assert waits == [1, 1]  # samples came in between, so the wait does not grow
    assert _read(flaky(0.3, 0.7), 1, 2)[0] == [1, 3, 5]


def test_waits_longer_each_time_and_then_leaves_the_rest_out(flaky, waits):
    order, events = _read(flaky(*[0.5] * 20))
    assert order == list(range(len(order)))
    assert 0 < len(order) < 6
    assert waits == [2.0**i for i in range(RETRIES)]
    assert [event['cause'] for event in events] == ['retried_shard'] * RETRIES + ['broken_tar']
    assert events[-1]['detail'].startswith(f'after {len(order)} samples')


def test_an_end_between_two_files_is_noticed_by_the_exit_status(make_shards, tmp_path, waits):
    path = make_shards(2).replace('*', '00000')
    # A header and the jpg behind it, the first file of three of a sample.
    data = Path(path).read_bytes()
    first = 512 + -(-int(data[124:135], 8) // 512) * 512
    order, events = _read(f'pipe:head -c {first} {path}; exit 9')
    assert order == []
    assert events[-1]['cause'] == 'unreadable_shard'


@pytest.mark.parametrize('way', ['local', 'pipe', 'connection'])
def test_a_shard_that_ends_between_two_samples_is_counted(way, make_shards, tmp_path, waits, monkeypatch):
    """Without an error of what reads it: nothing but the missing zeros at its end tells."""
    data = Path(make_shards(3).replace('*', '00000')).read_bytes()
    path = tmp_path / 'cut.tar'
    path.write_bytes(data[: data.rindex(b'00002.jpg')])
    url = {'local': str(path), 'pipe': f'pipe:cat {path}', 'connection': 'https://host/cut.tar'}[way]
    if way == 'connection':
        monkeypatch.setattr(shard_reading, 'gopen', lambda url: io.BytesIO(path.read_bytes()))
        monkeypatch.setattr(shard_reading, 'set_options', lambda *args, **kwargs: None)
    order, events = _read(url)
    assert order == [0]
    assert events[-1]['cause'] == 'broken_tar'
    assert 'between two files: the blocks of zeros that end an archive are missing' in events[-1]['detail']
    assert len(waits) == (0 if way == 'local' else RETRIES)


@pytest.mark.parametrize('prefix', ['', 'pipe:cat '])
def test_joined_archives_are_counted(prefix, make_shards, tmp_path, waits):
    data = Path(make_shards(30).replace('*', '00000')).read_bytes()
    path = tmp_path / 'joined.tar'
    path.write_bytes(data + data)
    order, events = _read(f'{prefix}{path}')
    assert order[:29] == list(range(29))
    assert 'several archives in one file' in events[-1]['detail']


def test_compressed_shards_have_an_end_of_their_own(make_shards, tmp_path, waits):
    data = Path(make_shards(3).replace('*', '00000')).read_bytes()
    (tmp_path / 'a.tar.gz').write_bytes(gzip.compress(data))
    assert _read(f'{tmp_path}/a.tar.gz') == ([0, 1, 2], [])


def test_local_files_are_not_read_again(make_shards, waits):
    path = make_shards(6).replace('*', '00000')
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])
    order, events = _read(path)
    assert [event['cause'] for event in events] == ['broken_tar']
    assert waits == []


def test_a_command_that_is_left_before_its_end_is_not_waited_for(make_shards, monkeypatch):
    path = make_shards(6).replace('*', '00000')
    opened = []
    monkeypatch.setattr(shard_reading, 'gopen', lambda url: opened.append(gopen(url)) or opened[0])
    samples = SequentialSource([f'pipe:cat {path}; exec sleep 5'], [0], 0, 1).one_lap()
    assert next(samples).index == 0
    samples.close()
    assert opened[0].proc.wait(60) == -signal.SIGKILL
