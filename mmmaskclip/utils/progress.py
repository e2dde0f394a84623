"""Bars with the remaining time, for people at a terminal or a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from mmengine.dist import is_main_process
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar('T')
_BETWEEN_LINES = 0.2  # seconds


def shows_bars() -> bool:
    """Whether anybody sees a bar: stderr is a terminal, and this is the first process."""
    return sys.stderr.isatty() and is_main_process()


@contextmanager
def progress_bar(text: str, total: int | None = None, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, or below the cell of a notebook, which disappears at the end.

    Where stderr is neither (a log file, a pipe), and on processes other than the first, nothing is shown and no thread
    is started.

    Args:
        text: Label of the bar.
        total: Number of items. Defaults to None: the bar has no end.
        shown: False shows nothing anywhere. Defaults to True.

    Yields:
        A function that moves the bar by a number of items.
    """
    if shown and in_notebook() and is_main_process():
        line = _Line(text, total)
        try:
            yield line.advance
        finally:
            line.show('')
        return
    if not (shown and shows_bars()):
        yield lambda _: None
        return
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task(text, total=total)
        yield lambda count: progress.advance(task, count)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (Jupyter, Colab, VS Code)."""
    shell = getattr(sys.modules.get('IPython'), 'get_ipython', lambda: None)()
    return 'IPKernelApp' in getattr(shell, 'config', ())


class _Line:
    """A line below a notebook's cell. Bars of rich and tqdm need ipywidgets there, which not everybody has."""

    def __init__(self, text: str, total: int | None) -> None:
        self._text, self._total, self._done = text, total, 0
        self._begin = self._shown = time.monotonic()
        self._display: Any = None
        self.show(text)

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._shown < _BETWEEN_LINES:
            return
        self._shown, passed = now, timedelta(seconds=round(now - self._begin))
        if self._total is None:
            self.show(f'{self._text}: {self._done}, {passed} passed')
            return
        left = timedelta(seconds=round((now - self._begin) / max(1, self._done) * (self._total - self._done)))
        self.show(f'{self._text}: {self._done} of {self._total}, {passed} passed, {left} left')

    def show(self, text: str) -> None:
        from IPython.display import display

        if self._display is None:
            self._display = display({'text/plain': text}, raw=True, display_id=True)
        else:
            self._display.update({'text/plain': text}, raw=True)


def track(items: Iterable[T], text: str, total: int | None = None) -> Iterator[T]:
    """Iterate over items and move a bar, see :func:`progress_bar`.

    Args:
        items: The items.
        text: Label of the bar.
        total: Number of items. Defaults to ``len(items)``; if the items have no length, the bar has no end.

    Yields:
        The items.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(text, total) as advance:
        for item in items:
            yield item
            advance(1)
