"""Workers of data loaders: parts of batches that they deliver, and signals that are meant for their run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

from torch.utils.data import DataLoader

_SECONDS_TO_SAVE = 120
# Largest part of a batch, in samples, and smallest one that is worth its own message.
_MOST_IN_A_PART, _FEWEST_IN_A_PART = 128, 32


def count_parts(batch_size: int, num_workers: int) -> int:
    """Number of parts in which workers deliver a batch: the fewest equal ones of at most 128 samples.

    1, a whole batch, without workers, for batches up to 128, and where equal parts would have fewer than 32 samples.
    """
    if not num_workers:
        return 1
    counts = (count for count in range(1, batch_size // _FEWEST_IN_A_PART + 1) if batch_size % count == 0)
    return next((count for count in counts if batch_size <= count * _MOST_IN_A_PART), 1)


def parts_ahead(count: int, num_workers: int, prefetch_factor: int) -> int:
    """Parts that each worker makes ahead: ``prefetch_factor``, or more until those of two batches can wait."""
    return max(prefetch_factor, -(-2 * count // num_workers)) if count > 1 else prefetch_factor


def call_in_workers(loader: DataLoader, call: Callable[[], None]) -> None:
    """Let workers that a loader starts from now on call a function first.

    Args:
        loader: The loader; changed in place.
        call: The function, before the loader's own ``worker_init_fn``.
    """
    loader.worker_init_fn = partial(_init_worker, loader.worker_init_fn, call)


def outlive_signals() -> None:
    """Let this worker live for two minutes after a SIGTERM, because the iteration in progress may need it.

    Then it ends with exit code 0. At any other one torch would raise in the middle of a longer iteration, and nothing
    would be saved.
    """
    # torch has set a handler that would end the worker, and with it the run, before anything is saved.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_SECONDS_TO_SAVE))
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    # Slurm sends these to every process. Workers that are not forked have no handler for them.
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _init_worker(init: Callable[[int], None] | None, call: Callable[[], None], worker: int) -> None:
    call()
    if init is not None:
        init(worker)
