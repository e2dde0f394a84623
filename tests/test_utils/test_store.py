"""Threads stand in for processes, and torch's HashStore for the store of a run."""

import threading
import time

import pytest
from torch.distributed import HashStore

from mmmaskclip.utils import store as stores
from mmmaskclip.utils.store import compare_ranks, describe_ranks


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(stores, '_POLL', 0.001)
    monkeypatch.setattr(stores, '_PULSE', 0.01)


def on_threads(world_size, call):
    """What ``call(rank)`` returns or raises, of each rank."""
    results = {}

    def run(rank):
        try:
            results[rank] = call(rank)
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return [results[rank] for rank in range(world_size)]


def compare(facts_of, world_size, limit=10.0):
    store = HashStore()
    return on_threads(world_size, lambda rank: compare_ranks(facts_of(rank), 'test', store, rank, world_size, limit))


def test_equal_facts_say_nothing_however_often_they_are_compared():
    store = HashStore()

    def call(rank):
        for _ in range(3):
            compare_ranks({'lr': 0.1}, 'test', store, rank, 4)

    assert on_threads(4, call) == [None] * 4


def test_what_differs_is_named_on_all_ranks_with_the_ranks():
    errors = compare(lambda rank: {'torch': '2.11', 'device': 'cpu' if rank == 2 else 'cuda'}, 4)
    expected = 'The processes of this run do not fit together (test): device: cuda on rank 0-1, 3; cpu on rank 2.'
    assert [str(error) for error in errors] == [expected] * 4


def test_ranks_that_never_arrive_are_named():
    store = HashStore()
    errors = on_threads(2, lambda rank: compare_ranks({}, 'test', store, rank, 4, limit=0.2))
    assert all('rank 2-3 of 4 did not arrive within 0.2 s' in str(error) for error in errors)


@pytest.fixture(autouse=True)
def _short_farewell(monkeypatch):
    monkeypatch.setattr(stores, '_FAREWELL', 0.5)


def test_a_long_wait_is_in_the_log(monkeypatch):
    said = []
    monkeypatch.setattr(stores, '_HEARTBEAT', 0.05)
    monkeypatch.setattr(stores, 'print_log', lambda text, *args, **kwargs: said.append(text))
    store = HashStore()

    def call(rank):
        time.sleep(0.2 * rank)
        compare_ranks({}, 'test', store, rank, 2)

    assert on_threads(2, call) == [None, None]
    assert any('Waiting for rank 1 (test) for' in text for text in said)


def test_rank_0_works_and_the_others_wait_longer_than_any_silence(monkeypatch):
    said, done = [], []
    monkeypatch.setattr(stores, 'SILENCE', 0.1)
    monkeypatch.setattr(stores, '_HEARTBEAT', 0.05)
    monkeypatch.setattr(stores, 'print_log', lambda text, *args, **kwargs: said.append(text))
    store = HashStore()

    def work():
        time.sleep(0.5)
        done.append(True)
        return 7

    def call(rank):
        value = stores._on_rank_0(work, 'fitting', store, rank, 3)
        return value, len(done)

    assert on_threads(3, call) == [(7, 1)] * 3
    assert any(text.startswith('Still fitting, for') for text in said)


@pytest.mark.parametrize(('error', 'kind'), [(OSError(28, 'full'), OSError), (ValueError('bad'), RuntimeError)])
def test_an_error_of_rank_0_is_raised_on_all(error, kind):
    store = HashStore()

    def work():
        raise error

    mine, other = on_threads(2, lambda rank: stores._on_rank_0(work, 'fitting', store, rank, 2))
    assert mine is error
    assert type(other) is kind
    assert str(error) in str(other)


def test_rank_0_whose_process_keeps_the_store_leaves_when_the_others_have_read_its_error():
    store, left = HashStore(), []

    def call(rank):
        time.sleep(0.2 * rank)
        try:
            compare_ranks({'seed': rank}, 'test', store, rank, 2)
        finally:
            left.append(rank)

    assert all('seed: 0 on rank 0; 1 on rank 1.' in str(error) for error in on_threads(2, call))
    left.clear()

    def work():
        raise ValueError('bad')

    def late(rank):
        time.sleep(0.2 * rank)
        try:
            stores._on_rank_0(work, 'fitting', store, rank, 2)
        finally:
            left.append((rank, time.monotonic()))

    on_threads(2, late)
    times = dict(left)
    assert times[0] > times[1] - 0.05


def test_a_rank_0_that_gives_no_sign_of_life_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(stores, 'SILENCE', 0.2)
    store = HashStore()
    with pytest.raises(RuntimeError, match=r'Rank 0 was fitting and has given no sign of life for'):
        stores._on_rank_0(lambda: None, 'fitting', store, 1, 2)


def test_all_work_as_long_as_they_need_and_wait_for_the_last_on_the_store(monkeypatch):
    said, done = [], []
    monkeypatch.setattr(stores, 'SILENCE', 0.1)
    monkeypatch.setattr(stores, '_HEARTBEAT', 0.05)
    monkeypatch.setattr(stores, 'print_log', lambda text, *args, **kwargs: said.append(text))
    store = HashStore()

    def call(rank):
        with stores._together('counting', store, rank, 3):
            time.sleep(0.4 * rank)
            done.append(rank)
        return sorted(done)

    assert on_threads(3, call) == [[0, 1, 2]] * 3
    assert any(text.startswith('Still counting, for') for text in said)


def test_an_error_of_one_rank_is_raised_on_those_that_wait_for_it():
    store = HashStore()

    def call(rank):
        with stores._together('counting', store, rank, 3):
            if rank == 1:
                raise OSError(5, 'broken disk')

    first, second, third = on_threads(3, call)
    assert [type(error) for error in (first, second, third)] == [OSError] * 3
    assert 'broken disk' in str(first)
    assert second.errno == third.errno == 5


def test_a_rank_that_dies_at_its_work_is_named(monkeypatch):
    monkeypatch.setattr(stores, 'SILENCE', 0.2)
    store = HashStore()

    def alone():
        with stores._together('counting', store, 0, 2):
            pass

    with pytest.raises(RuntimeError, match=r'Rank 1 was counting and has given no sign of life for'):
        alone()


def test_values_of_all_ranks_come_in_their_order_or_the_absent_one_is_named():
    store = HashStore()
    gathered = on_threads(3, lambda rank: stores._gather_on_store([rank, 'x'], 'lists', store, rank, 3, 10.0))
    assert gathered == [[[0, 'x'], [1, 'x'], [2, 'x']]] * 3
    (error,) = on_threads(1, lambda rank: stores._gather_on_store(0, 'lists', HashStore(), rank, 2, 0.2))
    assert isinstance(error, TimeoutError)
    assert str(error).startswith('rank 1 (lists): nothing came within')


def test_runs_of_ranks_are_shortened():
    assert describe_ranks([0, 1, 2, 5, 7, 8]) == '0-2, 5, 7-8'
