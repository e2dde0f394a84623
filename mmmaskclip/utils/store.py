"""Waits for other processes on the store of the process group. A collective would run into its timeout."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch.distributed as dist
from mmengine.logging import print_log

T = TypeVar('T')

_POLL = 0.1
_PULSE = 5.0
#: Seconds without a sign of life after which a process counts as gone.
SILENCE = 60.0
#: Seconds between two lines of the log about a wait.
_HEARTBEAT = 60.0
#: Seconds for which rank 0, whose process may keep the store, waits for the others to read it.
_FAREWELL = 10.0


def own_store() -> dist.Store | None:
    """A new connection to the process group's store, because another thread may block in the group's connection."""
    if not dist.is_initialized():
        return None
    store: Any = dist.distributed_c10d._get_default_store()
    try:
        return store.clone()
    except RuntimeError:
        return None


def on_rank_0(work: Callable[[], T], what: str) -> T:
    """Let rank 0 work. The others wait for the result on the store, as long as rank 0 is alive.

    Collective. Every minute rank 0 logs that it still works.

    Args:
        work: Function that rank 0 calls. It must not use collectives, and must return data that JSON can hold.
        what: The work, for messages: ``'verifying the checkpoints'``.

    Returns:
        The result of ``work``, on all ranks.

    Raises:
        Exception: The error of ``work``; on the other ranks an OSError of the same number, or a RuntimeError.
        RuntimeError: On the other ranks, if rank 0 has given no sign of life for a minute.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return work()
    store = own_store()
    assert store is not None, 'the process group is gone'
    return _on_rank_0(work, what, store, dist.get_rank(), dist.get_world_size())


def _on_rank_0(work: Callable[[], T], what: str, store: dist.Store, rank: int, world_size: int) -> T:
    name = _name_call(store, 'on_rank_0', rank)
    with _read_by_all(store, name, rank, world_size):
        if rank:
            return _wait_for(store, name, 0, what)
        with _tell(store, name, 0, what) as done:
            done['result'] = work()
        return done['result']


@contextmanager
def _read_by_all(store: dist.Store, name: str, rank: int, world_size: int) -> Iterator[None]:
    """Let rank 0 leave the block when the others have left it, too, or after ten seconds.

    An error that this block spreads ends rank 0, and with it the store, before the others have read which error it is.
    """
    try:
        yield
    finally:
        deadline = time.monotonic() + _FAREWELL
        with suppress(RuntimeError):  # the store is gone already
            store.add(f'{name}/left', 1)
            while rank == 0 and store.add(f'{name}/left', 0) < world_size and time.monotonic() < deadline:
                time.sleep(_POLL / 10)


@contextmanager
def together(what: str) -> Iterator[None]:
    """Let every rank do its share of some work. At the end of the block all ranks wait for the slowest, on the store.

    Collective. In a collective of the process group the first rank to arrive would run into the timeout.

    Args:
        what: The work, for messages: ``'counting shards'``.

    Raises:
        OSError: If the work of another rank has ended with an OSError.
        RuntimeError: If that work has ended with another error, or a rank has given no sign of life for a minute.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        yield
        return
    store = own_store()
    assert store is not None, 'the process group is gone'
    with _together(what, store, dist.get_rank(), dist.get_world_size()):
        yield


@contextmanager
def _together(what: str, store: dist.Store, rank: int, world_size: int) -> Iterator[None]:
    name = _name_call(store, 'together', rank)
    with _read_by_all(store, name, rank, world_size):
        with _tell(store, name, rank, what):
            yield
        for other in range(world_size):
            _wait_for(store, name, other, what)


@contextmanager
def _tell(store: dist.Store, name: str, rank: int, what: str) -> Iterator[dict[str, Any]]:
    """Send signs of life during the block. After it, send its end or its error, and what it wrote into the dict."""
    stop = threading.Event()
    pulse = threading.Thread(target=_give_signs, args=(store, f'{name}/{rank}', what, stop), daemon=True)
    pulse.start()
    done: dict[str, Any] = {}
    try:
        yield done
    except Exception as problem:
        done['error'] = pack_error(problem)
        raise
    finally:
        stop.set()
        pulse.join()
        store.set(f'{name}/{rank}/done', json.dumps(done))


def gather_on_store(value: Any, title: str, limit: float = 600) -> list[Any]:
    """Gather a value of every rank, in rank order, over the store. Unlike a collective, it names a missing rank.

    All ranks must call it.

    Args:
        value: Data that JSON can hold, at most some kilobytes.
        title: Name of the values, for messages.
        limit: Seconds within which all ranks must arrive. Defaults to 600.

    Raises:
        TimeoutError: If a rank does not arrive in time. Names the rank.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [value]
    store = own_store()
    assert store is not None, 'the process group is gone'
    return _gather_on_store(value, title, store, dist.get_rank(), dist.get_world_size(), limit)


def _gather_on_store(value: Any, title: str, store: dist.Store, rank: int, world_size: int, limit: float) -> list[Any]:
    name = _name_call(store, f'gather/{title}', rank)
    store.set(f'{name}/{rank}', json.dumps(value))
    deadline = time.monotonic() + limit
    with _read_by_all(store, name, rank, world_size):
        return [
            json.loads(
                _poll(store, f'{name}/{other}', f'rank {other} ({title})', max(0.0, deadline - time.monotonic()))
            )
            for other in range(world_size)
        ]


def compare_ranks(
    facts: Mapping[str, Any], title: str, store: dist.Store, rank: int, world_size: int, limit: float = 600
) -> None:
    """Raise an error if a fact differs between processes.

    Collective, over the store alone: it needs no process group.

    Args:
        facts: Text by name; the same names on all ranks, in the same order.
        title: Name of the comparison, for messages: ``'start of the processes'``.
        store: Store that all ranks reach.
        rank: This process's.
        world_size: Number of processes.
        limit: Seconds within which all ranks must arrive. Defaults to 600.

    Raises:
        RuntimeError: On all ranks. It names the facts that differ, and which ranks have which value; or the ranks that
            did not arrive in time.
    """
    name = _name_call(store, f'compare/{title}', rank)
    store.set(f'{name}/{rank}', json.dumps({key: str(value) for key, value in facts.items()}))
    with _read_by_all(store, name, rank, world_size):
        if rank == 0:
            store.set(f'{name}/verdict', json.dumps(_differences(store, name, title, world_size, limit)))
        text = json.loads(_poll(store, f'{name}/verdict', f'the comparison of the ranks ({title})', 2 * limit))
    if text:
        raise RuntimeError(f'The processes of this run do not fit together ({title}): {text}')


def _differences(store: dist.Store, name: str, title: str, world_size: int, limit: float) -> str:
    deadline, heard = time.monotonic() + limit, {}
    for rank in range(world_size):
        try:
            left = max(0.0, deadline - time.monotonic())
            heard[rank] = json.loads(_poll(store, f'{name}/{rank}', f'rank {rank} ({title})', left))
        except TimeoutError:
            continue
    if absent := [rank for rank in range(world_size) if rank not in heard]:
        return f'rank {describe_ranks(absent)} of {world_size} did not arrive within {limit:g} s.'
    texts = []
    for fact in heard[0]:
        ranks_by_value: dict[str, list[int]] = defaultdict(list)
        for rank, facts in heard.items():
            ranks_by_value[facts.get(fact, 'nothing')].append(rank)
        if len(ranks_by_value) > 1:
            values = '; '.join(f'{value} on rank {describe_ranks(ranks)}' for value, ranks in ranks_by_value.items())
            texts.append(f'{fact}: {values}.')
    return ' '.join(texts)


def describe_ranks(ranks: list[int]) -> str:
    """Numbers in ascending order as text, runs of them shortened: ``'0-7, 9'``."""
    parts = []
    for _, group in itertools.groupby(enumerate(ranks), key=lambda pair: pair[1] - pair[0]):
        run = [rank for _, rank in group]
        parts.append(str(run[0]) if len(run) == 1 else f'{run[0]}-{run[-1]}')
    return ', '.join(parts)


def pack_error(error: Exception | None) -> tuple[bool, int | None, str] | None:
    """An error as plain data, for another process to raise: whether it is an OSError, its number, its text."""
    if error is None or isinstance(error, OSError):
        return None if error is None else (True, error.errno, str(error))
    return False, None, f'{type(error).__name__}: {error}'


def raise_packed(packed: tuple[bool, int | None, str] | list | None, rank: int = 0) -> None:
    """Raise the error that a rank has packed with :func:`pack_error`; do nothing if it is None."""
    if packed is None:
        return
    is_os_error, number, text = packed
    raise OSError(number or errno.EIO, text) if is_os_error else RuntimeError(f'On rank {rank}: {text}')


def _name_call(store: dist.Store, function: str, rank: int) -> str:
    """A key for this call in the store. It is equal on all ranks, because all make such calls in the same order."""
    number = store.add(f'mmmaskclip/{function}/calls/{rank}', 1)
    return f'mmmaskclip/{function}/{number}'


def _give_signs(store: dist.Store, name: str, what: str, stop: threading.Event) -> None:
    begin = said = time.monotonic()
    for count in itertools.count():
        try:
            store.set(f'{name}/pulse', str(count))
        except RuntimeError:  # the store has ended, with this process or its keeper; the others notice that
            return
        if stop.wait(_PULSE):
            return
        now = time.monotonic()
        if now - said >= _HEARTBEAT:
            said = now
            print_log(f'Still {what}, for {now - begin:.0f} s; the other ranks wait.', logger='current')


def _wait_for(store: dist.Store, name: str, rank: int, what: str) -> Any:
    """The message that a rank has sent at the end of its work."""
    pulse, seen_at, key = b'', time.monotonic(), f'{name}/{rank}'
    while not store.check([f'{key}/done']):
        now = time.monotonic()
        if store.check([f'{key}/pulse']) and (new := store.get(f'{key}/pulse')) != pulse:
            pulse, seen_at = new, now
        if now - seen_at > SILENCE:
            raise RuntimeError(
                f'Rank {rank} was {what} and has given no sign of life for {now - seen_at:.0f} s: it is gone, or its '
                'machine is not reached.'
            )
        time.sleep(_POLL)
    done = json.loads(store.get(f'{key}/done'))
    raise_packed(done.get('error'), rank)
    return done.get('result')


def _poll(store: dist.Store, key: str, what: str, limit: float) -> bytes:
    """Wait for a key, and log that every minute. Raises TimeoutError after ``limit`` seconds."""
    begin = said = time.monotonic()
    while not store.check([key]):
        now = time.monotonic()
        if now - begin >= limit:
            raise TimeoutError(f'{what}: nothing came within {limit:g} s')
        if now - said >= _HEARTBEAT:
            said = now
            print_log(f'Waiting for {what} for {now - begin:.0f} s.', logger='current', level=logging.WARNING)
        time.sleep(_POLL)
    return store.get(key)
