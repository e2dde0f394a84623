"""Tells the model where the run stands and when the optimizer has really stepped."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmmaskclip.registry import HOOKS


@HOOKS.register_module()
class ModelStepHook(Hook):
    """Drives the model's schedules and its teacher by optimizer steps, not by iterations.

    Before each iteration it calls ``model.set_progress(p)``, ``p`` = optimizer steps taken / optimizer steps of the
    run, in [0, 1]. After an iteration in which :class:`PretrainOptimWrapper` really stepped it calls
    ``model.after_optimizer_step()``: once per accumulation, never after a step that float16 skipped.
    """

    # Before the training monitor and the checkpoint hook, so that they see the model after its step.
    priority = 'ABOVE_NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Start from the resumed number of steps."""
        self._model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._steps_seen = runner.optim_wrapper.steps_taken
        self._total_steps = -(-runner.max_iters // runner.optim_wrapper._accumulative_counts)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set the progress of the run."""
        self._model.set_progress(min(1.0, runner.optim_wrapper.steps_taken / self._total_steps))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Let the model follow an optimizer step that was taken."""
        if runner.optim_wrapper.steps_taken != self._steps_seen:
            self._steps_seen = runner.optim_wrapper.steps_taken
            self._model.after_optimizer_step()
