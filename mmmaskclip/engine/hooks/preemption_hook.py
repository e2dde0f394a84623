"""Saves and ends a run whose machine is taken away."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from mmmaskclip.engine.hooks.checkpoint_hook import save_now
from mmmaskclip.engine.loops.evaluation_loop import EvaluationLoop
from mmmaskclip.engine.step.optim_wrapper import PretrainOptimWrapper
from mmmaskclip.engine.step.outcome import StepOutcome
from mmmaskclip.registry import HOOKS
from mmmaskclip.startup.workers import call_in_workers, outlive_signals
from mmmaskclip.utils.distributed import any_rank
from mmmaskclip.utils.exit_codes import SAVED

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Saves a checkpoint on SIGTERM, SIGUSR1 or SIGUSR2 and ends the run with exit code 75.

    It is enough that one rank gets the signal. Every optimizer step reduces flags over all ranks, one of which is a
    stop request, so all ranks save the same iteration. If the host reads the flags of a step late (see
    :mod:`mmmaskclip.engine.step`), the run ends one step later. The same command with ``--resume auto`` continues.

    Workers of the data loaders live for two more minutes after a SIGTERM to the whole process group, because the
    iteration in progress may need them. A validation is not interrupted: the run ends after the iteration that follows.

    Ctrl-C ends the run at once, and its last line names the newest checkpoint that this run has saved.
    """

    # After CheckpointHook, so that this hook does not save an iteration again that CheckpointHook has just saved.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._received: int | None = None
        self._previous: dict[int, object] = {}
        self._outcome: StepOutcome | None = None

    def before_train(self, runner: Runner) -> None:
        """Set the signal handlers, if this is the main thread; Python allows them only there."""
        self._wrapper: Any = runner.optim_wrapper
        self._received = None
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        self._previous[signal.SIGINT] = signal.signal(signal.SIGINT, _Interrupt(runner))
        for loop in (runner.train_loop, runner.val_loop):
            on_worker_start(loop, outlive_signals)
        # Registered to run before multiprocessing's own handler, which sends SIGTERM to the workers and waits for them;
        # these workers survive a SIGTERM.
        atexit.unregister(kill_workers)
        atexit.register(kill_workers)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Save and end the run if a rank got a signal.

        Raises:
            SystemExit: With code 75, on all ranks.
        """
        if not runner.at_step_boundary or not self._stop_requested():
            return
        name = 'a signal to another rank' if self._received is None else signal.Signals(self._received).name
        path = save_now(runner, name)
        runner.logger.warning(f'{name}: saved {path}; the run ends with code {SAVED}. Continue with --resume auto.')
        runner.visualizer.close()
        raise SystemExit(SAVED)

    def after_train(self, runner: Runner) -> None:
        """Restore the signal handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()

    def _stop_requested(self) -> bool:
        """Whether any rank got a signal; the same answer on all ranks. Called once per optimizer step."""
        if not isinstance(self._wrapper, PretrainOptimWrapper):
            return any_rank(self._received is not None)
        outcome = self._wrapper.outcome
        if self._wrapper.reads_late:
            # The latest outcome may be known on one rank only; the one before is known on all.
            outcome, self._outcome = self._outcome, outcome
        return outcome is not None and outcome.stop_requested

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self._wrapper.stop_requested = True


class _Interrupt:
    """Handler of SIGINT: ends the run, and names the newest checkpoint that this run has saved in the last line."""

    def __init__(self, runner: Runner) -> None:
        self._last = Path(runner.work_dir) / 'last_checkpoint'
        self._before = self._stamp()
        self._resumed_from = runner._load_from if runner.iter else None

    def _stamp(self) -> tuple[int, str] | None:
        if not self._last.is_file():
            return None
        return self._last.stat().st_mtime_ns, self._last.read_text().strip()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = self._stamp()
        if now is not None and now != self._before:
            text = f'The newest checkpoint is {now[1]}; continue from it with --resume auto.'
        else:
            text = f'This run has saved no checkpoint yet in {self._last.parent}.'
            if self._resumed_from:
                text += f' It was resumed from {self._resumed_from}; continue from that one with --resume auto.'
        raise KeyboardInterrupt(text)


def on_worker_start(loop: BaseLoop | None, call: Callable[[], None]) -> None:
    """Let every worker that the loaders of a loop start from now on call a function first. A loop of None has none."""
    if loop is None:
        return
    for loader in loop.dataloaders.values() if isinstance(loop, EvaluationLoop) else [loop.dataloader]:
        call_in_workers(loader, call)


def kill_workers() -> None:
    """Kill the workers of data loaders, which a process no longer needs when it ends."""
    # torch's handler of SIGCHLD would raise an error for each killed worker.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        worker.kill()
