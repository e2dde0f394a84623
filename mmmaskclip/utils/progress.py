"""Bars with the remaining time, for people at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from mmengine.dist import is_main_process
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar('T')


def shows_bars() -> bool:
    """Whether anybody sees a bar: stderr is a terminal, and this is the first process."""
    return sys.stderr.isatty() and is_main_process()


@contextmanager
def progress_bar(text: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, which disappears at the end.

    Where stderr is no terminal (a log file, a pipe), and on processes other than the first, nothing is shown and no
    thread is started.

    Args:
        text: What the bar says it is about.
        total: How many there are. Defaults to None: the bar has no end.

    Yields:
        A function that moves the bar by a number of items.
    """
    if not shows_bars():
        yield lambda _: None
        return
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task(text, total=total)
        yield lambda count: progress.advance(task, count)


def track(items: Iterable[T], text: str, total: int | None = None) -> Iterator[T]:
    """Go through items beside a bar, see :func:`progress_bar`.

    Args:
        items: Anything to go through.
        text: What the bar says it is about.
        total: How many there are. Defaults to ``len(items)``; without a length the bar has no end.

    Yields:
        The items.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(text, total) as advance:
        for item in items:
            yield item
            advance(1)
