"""Bounds every wait of a run, and ends the run when one of its processes dies."""

from __future__ import annotations

import sys
from functools import partial
from types import TracebackType

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmmaskclip.engine.distributed.watchdog import Watchdog, dump_stacks_on_request
from mmmaskclip.engine.hooks.preemption_hook import on_worker_start
from mmmaskclip.registry import HOOKS


@HOOKS.register_module()
class WatchdogHook(Hook):
    """Ends a process that waits too long, with an error that names its rank, what it waited for, and the other ranks.

    The watchdog (:class:`~.watchdog.Watchdog`) writes the stacks to ``work_dir/hang_rank*.txt``, and the exit code is
    76. If an error ends the run instead, because a worker of the data loader was killed or the connection to another
    rank broke, the hook prints the same facts below the traceback. When one rank dies, the others end within seconds,
    with exit code 77 unless they have an error of their own.

    Args:
        limit: Seconds that the next batch may take. A training step with its hooks may take 1.5 times as long, so that
            a rank with late data reports before the ranks that wait for it. Keep the limit below two thirds of
            ``env_cfg.dist_cfg.timeout``. Defaults to 900.
        long_limit: Seconds for each step of a validation, for the end of a validation, and for the check of the data
            before the first step. Defaults to 7200.
    """

    # After CheckpointHook: saving belongs to the step, not to the wait for the next batch.
    priority = 'LOWEST'

    def __init__(self, limit: float = 900, long_limit: float = 7200) -> None:
        self.limit = limit
        self.long_limit = long_limit

    def before_run(self, runner: Runner) -> None:
        """Start the watchdog."""
        self._watchdog = Watchdog(runner.work_dir, *get_dist_info())
        self._watchdog.enter('the start of the run', self.long_limit)
        self._watchdog.start()
        self._excepthook = sys.excepthook
        sys.excepthook = self._explain

    def after_run(self, runner: Runner) -> None:
        """Stop the watchdog."""
        self._watchdog.stop()
        sys.excepthook = self._excepthook

    def before_train(self, runner: Runner) -> None:
        """Let the loaders' workers write their stacks when the watchdog asks for them."""
        for loop in (runner.train_loop, runner.val_loop):
            on_worker_start(loop, partial(dump_stacks_on_request, self._watchdog.file))

    def before_train_epoch(self, runner: Runner) -> None:
        """The next phase: the first batch of an epoch."""
        self._wait_for_batch(runner.iter)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """The next phase: the training step."""
        others = ' (or another rank in its exchange of gradients)' if runner.world_size > 1 else ''
        self._watchdog.enter(
            f'the training step of iteration {runner.iter + 1} and its hooks{others}', 1.5 * self.limit
        )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """The next phase: the next batch, or the end of the epoch after its last batch."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop) and self.end_of_epoch(runner.train_dataloader, batch_idx):
            self._watchdog.enter('the end of the epoch', self.long_limit)
        else:
            self._wait_for_batch(runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """The next phase: hooks and validation between two epochs."""
        self._watchdog.enter('the end of the epoch', self.long_limit)

    def before_val(self, runner: Runner) -> None:
        """The next phase: the first step of a validation."""
        self._watchdog.enter('the validation', self.long_limit)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None) -> None:
        """The next phase: the next step of a validation."""
        self._watchdog.enter(f'what follows step {batch_idx + 1} of the validation', self.long_limit)

    def after_val(self, runner: Runner) -> None:
        """The next phase: the next batch of training, in the same epoch or another."""
        if runner._train_loop is not None:
            self._wait_for_batch(runner.iter)

    def before_test(self, runner: Runner) -> None:
        """Let the loader's workers write their stacks; the next phase is the first step of a test."""
        on_worker_start(runner.test_loop, partial(dump_stacks_on_request, self._watchdog.file))

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """The next phase: the next step of a test."""
        self._watchdog.enter(f'what follows step {batch_idx + 1} of the test', self.long_limit)

    def _wait_for_batch(self, done: int) -> None:
        self._watchdog.enter(f'the batch of iteration {done + 1} (its data loader)', self.limit)

    def _explain(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        # Before the traceback is printed, which may take a while: the other ranks wait for this one.
        self._watchdog.report_death(f'{kind.__name__}: {error}'[:500])
        self._excepthook(kind, error, trace)
        if not isinstance(error, Exception):
            return
        rank, world_size = get_dist_info()
        # torch finds a killed worker by itself only if it is not just receiving a batch from it.
        hint = (
            'A worker of the data loader is gone, see dmesg. ' if isinstance(error, ConnectionError | EOFError) else ''
        )
        print(
            f'error: rank {rank} of {world_size} failed during {self._watchdog.phase}: {kind.__name__}, see above. '
            f'{hint}{self._watchdog.others()}',
            file=sys.stderr,
            flush=True,
        )
