"""Bars with the remaining time, for people at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from mmengine.dist import is_main_process
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar('T')


def track(items: Iterable[T], text: str, total: int | None = None) -> Iterator[T]:
    """Go through items beside a bar on stderr, which disappears at the end.

    Where stderr is no terminal (a log file, a pipe), and on processes other than the first, nothing is shown and no
    thread is started.

    Args:
        items: Anything to go through.
        text: What the bar says it is about.
        total: How many there are. Defaults to ``len(items)``; without a length the bar has no end.

    Yields:
        The items.
    """
    if not (sys.stderr.isatty() and is_main_process()):
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), transient=True) as progress:
        yield from progress.track(items, total=total, description=text)
