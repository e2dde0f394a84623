"""Processes that die, with sleeping programs and a HashStore as stand-ins."""

import signal
import subprocess
import sys
import types

import pytest
from torch.distributed import HashStore

from mmmaskclip.engine.distributed import peers, watchdog
from mmmaskclip.engine.distributed.peers import Peers
from mmmaskclip.utils.exit_codes import PEER_DIED


@pytest.fixture
def clock(monkeypatch):
    """The time that passes, to be set."""
    clock = types.SimpleNamespace(now=0.0)
    stand_in = types.SimpleNamespace(monotonic=lambda: clock.now, time=lambda: clock.now)
    monkeypatch.setattr(peers, 'time', stand_in)
    return clock


@pytest.fixture
def sleeper():
    """A process that sleeps."""
    process = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])
    yield process
    process.kill()
    process.wait()


def sign(store, rank, monkeypatch, pid, host=None, **more):
    """Give a sign of life as another process would."""
    with monkeypatch.context() as patch:
        patch.setattr(peers.os, 'getpid', lambda: pid)
        if host:
            patch.setattr(peers.socket, 'gethostname', lambda: host)
        Peers(store, rank, 3).publish(tick=1.0, phase='a batch', waited=0.0, **more)


def test_a_process_of_this_machine_that_is_killed_is_noticed_at_once_by_any_rank(clock, sleeper, monkeypatch):
    store = HashStore()
    own = Peers(store, 1, 3)
    sign(store, 2, monkeypatch, sleeper.pid)
    assert own.look() is None
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    assert f'rank 2 (process {sleeper.pid} on ' in own.look()
    assert 'is gone without a word: it was killed, perhaps for lack of memory' in Peers(store, 0, 3).look()


def test_a_process_that_left_as_it_should_is_no_death(clock, sleeper, monkeypatch):
    store = HashStore()
    own = Peers(store, 0, 3)
    sign(store, 2, monkeypatch, sleeper.pid)
    assert own.look() is None
    sign(store, 2, monkeypatch, sleeper.pid, ended=True)
    sleeper.kill()
    sleeper.wait()
    clock.now = 1000.0
    assert own.look() is None


def test_a_machine_that_falls_silent_is_noticed_by_rank_0(clock, monkeypatch):
    store = HashStore()
    first, other = Peers(store, 0, 3), Peers(store, 1, 3)
    for clock.now in (0.0, 20.0, 40.0):
        sign(store, 2, monkeypatch, 123, host='far')
        assert first.look() is None
    clock.now = 90.0
    assert first.look() is None
    clock.now = 120.0
    assert other.look() is None
    assert 'rank 2 (process 123 on far) has given no sign of life for 80 s' in first.look()
    assert other.look() == first.look()


def test_an_error_of_a_rank_is_read_by_the_others_and_the_first_one_counts(clock):
    store = HashStore()
    Peers(store, 1, 3).report_death('rank 1 has ended: ValueError: bad')
    Peers(store, 2, 3).report_death('rank 2 has ended: broken connection')
    assert Peers(store, 0, 3).look() == 'rank 1 has ended: ValueError: bad'


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """A watchdog of rank 0 of 2 whose end is a SystemExit, and its store."""
    store, clock = HashStore(), types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(watchdog, 'own_store', lambda: store)
    stand_in = types.SimpleNamespace(monotonic=lambda: clock.now, time=lambda: clock.now, sleep=lambda _: None)
    monkeypatch.setattr(watchdog, 'time', stand_in)
    monkeypatch.setattr(watchdog.os, '_exit', sys.exit)
    return watchdog.Watchdog(tmp_path, 0, 2), store, clock


def test_a_rank_ends_soon_after_another_has_died_but_not_before_its_own_error(watched, capsys, monkeypatch):
    dog, store, clock = watched
    monkeypatch.setattr(sys, '__stderr__', sys.stderr)
    dog.phase = 'the training step of iteration 5'
    dog._look_for_deaths()
    Peers(store, 1, 2).report_death('rank 1 has ended: ValueError: bad')
    for clock.now in (1.0, 15.0):
        dog._look_for_deaths()
    clock.now = 25.0
    with pytest.raises(SystemExit) as left:
        dog._look_for_deaths()
    assert left.value.code == PEER_DIED
    assert 'Rank 0 of 2 ends with code 77 during the training step of iteration 5, because rank 1 has ended' in (
        capsys.readouterr().err
    )


def test_a_store_that_is_gone_is_a_death_too(watched, monkeypatch):
    dog, _, clock = watched

    def fail(*_):
        raise RuntimeError('Connection reset by peer')

    monkeypatch.setattr(HashStore, 'check', fail)
    dog._look_for_deaths()
    clock.now = 25.0
    with pytest.raises(SystemExit):
        dog._look_for_deaths()


def test_only_rank_0_asks_for_all_signs_of_a_large_run(monkeypatch):
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '8')
    monkeypatch.setenv('LOCAL_RANK', '3')
    assert Peers(HashStore(), 19, 256)._watched == range(16, 24)
    assert Peers(HashStore(), 0, 256)._watched == range(256)
    monkeypatch.delenv('LOCAL_WORLD_SIZE')
    assert Peers(HashStore(), 19, 32)._watched == range(32)
    assert Peers(HashStore(), 19, 256)._watched == range(1)
