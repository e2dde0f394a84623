"""Writes checkpoint files in the step or in a thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mmmaskclip.checkpoints.files import BackgroundWriter
from mmmaskclip.utils.disk import DISK_FULL
from mmmaskclip.utils.distributed import raise_everywhere

# A save is slow if it takes so many seconds, and more than this share of the time between two saves.
_SLOW, _SHARE = 1.0, 0.01


class CheckpointWriter:
    """Runs the writing of checkpoints on the first rank, in the training thread or in one of its own.

    Args:
        in_thread: Whether to use a thread. None: start without one, and use one after the first save that takes a
            second or more and more than 1 % of the time since the save before.
    """

    def __init__(self, in_thread: bool | None) -> None:
        self._may_change = in_thread is None
        self._thread = BackgroundWriter() if in_thread is not False else None
        self._in_thread = bool(in_thread)
        self._done_at = time.monotonic()

    def start_clock(self) -> None:
        """Count the time to the first save from now on."""
        self._done_at = time.monotonic()

    def run(self, write: Callable[[], None], on_error: Callable[[], None]) -> None:
        """Write a file. On the first rank only.

        Args:
            write: Writes the file.
            on_error: Called in the thread if ``write`` fails there. The next call of this class raises the error.
        """
        if self._thread is None or not self._in_thread:
            begin = time.monotonic()
            write()
            self._choose(begin - self._done_at, time.monotonic() - begin)
            self._done_at = time.monotonic()
            return
        # A full disk needs no error here: the thread has logged it, and this is the next attempt.
        self._wait()
        self._thread.start(lambda: _write_in_thread(write, on_error))

    def wait(self) -> OSError | None:
        """Wait for the thread. Collective.

        Returns:
            The error, on all ranks, if the disk was full. Other errors are raised on all ranks.
        """
        if self._thread is None:
            return None
        error: Exception | None = None
        if is_main_process():
            try:
                error = self._wait()
            except Exception as problem:
                error = problem
        try:
            raise_everywhere(error)
        except OSError as problem:
            if problem.errno not in DISK_FULL:
                raise
            return problem
        return None

    def _wait(self) -> OSError | None:
        """Wait for the thread; returns its error if the disk was full."""
        assert self._thread is not None
        try:
            self._thread.wait()
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            return error
        return None

    def _choose(self, interval: float, seconds: float) -> None:
        if self._may_change and seconds >= _SLOW and seconds > _SHARE * interval:
            self._in_thread = True
            print_log(
                f'Writing this checkpoint took {seconds:.1f} s, {interval:.0f} s after the one before. The next ones '
                'are written in a thread; async_save=False of the checkpoint hook prevents that.',
                logger='current',
            )


def describe_failure(error: Exception, again: str) -> str:
    """A line for the log about a checkpoint that could not be written."""
    return (
        f'The checkpoint could not be saved: {error}. The earlier one is intact, training continues, and {again}. '
        'Free some space.'
    )


def _write_in_thread(write: Callable[[], None], on_error: Callable[[], None]) -> None:
    try:
        write()
    except Exception as error:
        on_error()
        text = describe_failure(error, 'the next attempt is the next checkpoint')
        print_log(text, logger='current', level=logging.ERROR)
        raise
