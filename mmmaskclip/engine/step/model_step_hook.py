"""Tells the model where the run stands and when the optimizer has really stepped."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmmaskclip.models.objectives.teacher import MomentumCopy
from mmmaskclip.registry import HOOKS


@HOOKS.register_module()
class ModelStepHook(Hook):
    """Drives the model's schedules and its teacher by optimizer steps, not by iterations.

    Before each iteration it calls ``model.set_progress(p)``, ``p`` = optimizer steps taken / optimizer steps of the
    run, in [0, 1]. After an iteration in which :class:`PretrainOptimWrapper` really stepped it calls
    ``model.after_optimizer_step()``: once per accumulation, never after a step that was skipped because a loss or the
    gradient was not finite. Where only the device knows yet, it calls it with the EMA copies told to stay if so; the
    progress of one forward pass is then a step ahead.
    """

    # Before the training monitor and the checkpoint hook, so that they see the model after its step.
    priority = 'ABOVE_NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Start from the resumed number of steps."""
        self._model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._copies = [module for module in self._model.modules() if isinstance(module, MomentumCopy)]
        self._steps_tried = runner.optim_wrapper.steps_tried
        self._total_steps = -(-runner.max_iters // runner.optim_wrapper._accumulative_counts)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set the progress of the run."""
        self._set_progress(runner.optim_wrapper.steps_taken)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Let the model follow an optimizer step that was taken."""
        wrapper = runner.optim_wrapper
        if wrapper.steps_tried == self._steps_tried:
            return
        self._steps_tried = wrapper.steps_tried
        if wrapper.step_taken is False:
            return
        for copy in self._copies:
            copy.step_taken = None if wrapper.step_taken is True else wrapper.step_taken
        if wrapper.steps_taken - 1 != self._steps_assumed:
            # The step before this one has turned out to be skipped: momentum must not be a step ahead.
            self._set_progress(wrapper.steps_taken - 1)
        self._model.after_optimizer_step()

    def _set_progress(self, steps_taken: int) -> None:
        self._steps_assumed = steps_taken
        self._model.set_progress(min(1.0, steps_taken / self._total_steps))
