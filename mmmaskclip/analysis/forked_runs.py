"""Starts commands as forks of one process that has already imported everything, so that they start at once."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import Any

# Modules that a training or a test imports, most of them only after its start.
_PRELOADED = [
    'mmmaskclip.cli.train',
    'mmmaskclip.cli.test',
    'mmmaskclip.engine',
    'mmmaskclip.models',
    'mmmaskclip.datasets',
    'mmmaskclip.evaluation',
    'mmmaskclip.visualization',
    'mmmaskclip.config_check.check',
    'mmmaskclip.analysis.first_step',
    'mmseg.evaluation',
    'torch.utils.tensorboard',
]


class ForkedRun:
    """``python -m module arguments``, as a fork.

    Args:
        module: Name of a module with a function ``command``.
        arguments: Its command line.
        log: File to which its output is appended.
        lock: Open file that the run and all its child processes keep open. The caller may close its own copy.
    """

    def __init__(self, module: str, arguments: Sequence[str], log: Path, lock: int) -> None:
        # A fork of a separate server process: a fork of this one would lack its threads, but keep their locks.
        context = multiprocessing.get_context('forkserver')
        context.set_forkserver_preload(_PRELOADED)
        # Otherwise torch initializes CUDA while it is imported, and CUDA does not survive a fork.
        os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')
        self._process = context.Process(target=_run, args=(module, list(arguments), str(log), _Passed(lock)))
        self._process.start()

    def wait(self) -> int:
        """Wait for the end; returns the exit status, negative after a signal."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.exitcode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()


class _Passed:
    """An open file that pickling passes on to another process."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (reduction.DupFd(self.descriptor),)


def _receive(passed: Any) -> _Passed:
    return _Passed(passed.detach())


def _run(module: str, arguments: list[str], log: str, lock: _Passed) -> None:
    os.set_inheritable(lock.descriptor, True)
    with open(log, 'a') as stream:
        for output in (sys.stdout, sys.stderr):
            os.dup2(stream.fileno(), output.fileno())
    sys.argv = [module, *arguments]
    importlib.import_module(module).command()
