"""Runs a function of a test file in several processes that can talk to each other."""

import inspect
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT, load_module

from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.startup.processes import leave_processes

LIMIT = 200
# A server that has imported what takes seconds and has no thread, from which processes are forked.
_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(
    [
        *('mmmaskclip.cli.train', 'mmmaskclip.cli.test', 'mmmaskclip.engine', 'mmmaskclip.analysis.first_step'),
        *('mmpretrain.models', 'mmseg.models', 'mmdet.models', 'mmdet.apis', 'settled_server'),
    ]
)


def start_server() -> None:
    """Start the server; Python 3.11 gives it no ``sys.path``, and so no modules of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT / 'tests'), os.environ.get('PYTHONPATH', '')]))
        multiprocessing.forkserver.ensure_running()


def free_port() -> str:
    """A port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return str(free.getsockname()[1])


def environments(world_size: int) -> list[dict[str, str]]:
    """What torchrun gives to the environment of each of ``world_size`` processes on this machine."""
    shared = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': free_port(), 'WORLD_SIZE': str(world_size)}
    return [shared | {'RANK': str(rank), 'LOCAL_RANK': str(rank)} for rank in range(world_size)]


def run_ranks(function: Callable[..., None], *arguments: Any, world_size: int = 2) -> None:
    """Calls a function in ``world_size`` new processes with the environment that torchrun gives, and waits for them.

    Args:
        function: Of a test file's top level; it makes the process group itself, or a Runner does.
        arguments: What it is called with in each process; they are pickled.
        world_size: Number of processes.

    Raises:
        AssertionError: When one fails, with its traceback on stderr, or when they take more than 200 s.
    """
    target = inspect.getfile(function), function.__name__, arguments
    ranks = [_context.Process(target=_run, args=(each, *target)) for each in environments(world_size)]
    deadline = time.monotonic() + LIMIT
    start_server()
    for rank in ranks:
        rank.start()
    try:
        # One that fails leaves the others waiting for it.
        while any(rank.is_alive() for rank in ranks) and not any(rank.exitcode for rank in ranks):
            assert time.monotonic() < deadline, f'{function.__name__} takes more than {LIMIT} s'
            multiprocessing.connection.wait([rank.sentinel for rank in ranks if rank.is_alive()], timeout=1)
        assert [rank.exitcode for rank in ranks] == [0] * world_size, 'a rank failed; its traceback is on stderr'
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()


def fork_ranks(function: Callable[..., Any], folder: Path, world_size: int = 2) -> list[Any]:
    """Calls a function with the rank in forks of this process, each of them one of a group, and gives its results.

    Quicker than :func:`run_ranks`, for functions that neither start processes nor compute in threads.

    Args:
        function: Gets the rank.
        folder: Where the group meets.
        world_size: Number of processes.
    """
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    # Daemons, so that a rank that hangs does not keep the tests from ending.
    ranks = [
        context.Process(target=_answer, args=(function, folder / 'store', rank, world_size, queue), daemon=True)
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    results = dict(queue.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join()
    return [results[rank] for rank in range(world_size)]


def _answer(function: Callable[..., Any], store: Path, rank: int, world_size: int, queue: Any) -> None:
    torch.distributed.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=world_size)
    queue.put((rank, function(rank)))
    torch.distributed.destroy_process_group()


def _run(environment: dict[str, str], file: str, name: str, arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    # Workers of data loaders, as in a process of a user.
    multiprocessing.set_start_method('fork', force=True)
    torch.set_num_threads(1)
    register_all_modules()
    # Test files have no name under which they could be imported.
    getattr(load_module(file), name)(*arguments)
    leave_processes()
