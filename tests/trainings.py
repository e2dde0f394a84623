"""Trains tests/tiny/tiny.py by the command line in processes of their own, several runs at the same time."""

import atexit
import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from paths import TINY
from ranks import environments, start_server

from mmmaskclip.cli.train import main
from mmmaskclip.engine.registration import register_all_modules

LIMIT = 100
_context = multiprocessing.get_context('forkserver')


class Ended(NamedTuple):
    """A run that has ended: its work directory, and of each rank the exit code and what it wrote to stderr."""

    folder: Path
    codes: list[int]
    errors: list[str]


def train_together(parent: Path, **runs: tuple[str, int]) -> dict[str, Ended]:
    """Train several runs at the same time, each in a process group of its own.

    Args:
        parent: Folder for their work directories.
        runs: By name, the text that the config adds to tiny.py, and the number of ranks.
    """
    started = {name: _start(parent / name, *run) for name, run in runs.items()}
    deadline = time.monotonic() + LIMIT
    for processes in started.values():
        for process in processes:
            process.join(max(0, deadline - time.monotonic()))
        with suppress(ProcessLookupError):  # ranks that hang, workers that are stuck, commands of pipes
            os.killpg(processes[0].pid, signal.SIGKILL)
        for process in processes:
            process.join()
    return {
        name: Ended(
            parent / name,
            [process.exitcode for process in processes],
            [(parent / name / f'errors{rank}.txt').read_text() for rank in range(len(processes))],
        )
        for name, processes in started.items()
    }


def _start(folder: Path, options: str, world_size: int) -> list:
    folder.mkdir()
    start_server()
    imports = "custom_imports = dict(imports=['tiny_parts', 'fault_parts'])"
    local = "visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])"
    (folder / 'config.py').write_text(f"_base_ = '{TINY}/tiny.py'\n{imports}\n{local}\n{options}\n")
    processes: list = []
    for rank, given in enumerate(environments(world_size)):
        process = _context.Process(target=_train, args=(folder, given, processes[0].pid if rank else 0))
        process.start()
        processes.append(process)
        # The next rank joins the group of the first.
        while not rank and os.getpgid(process.pid) != process.pid:
            time.sleep(0.01)
    return processes


def _train(folder: Path, environment: dict[str, str], group: int) -> None:
    os.setpgid(0, group)
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(folder / f'errors{environment["RANK"]}.txt', os.O_WRONLY | os.O_CREAT), 2)
    sys.path.insert(0, str(TINY))
    torch.set_num_threads(1)
    register_all_modules(init_default_scope=False)
    launcher = ['--launcher', 'pytorch'] if environment['WORLD_SIZE'] != '1' else []
    code = 0
    try:
        main([str(folder / 'config.py'), '--work-dir', str(folder), *launcher])
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    # As at the end of an interpreter, which a process of multiprocessing does not reach.
    atexit._run_exitfuncs()
    os._exit(code)
