"""Drives the model's schedules and EMA copies by optimizer steps."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmmaskclip.models.objectives.teacher import MomentumCopy
from mmmaskclip.models.pretrainers import ImageTextPretrainer
from mmmaskclip.registry import HOOKS


@HOOKS.register_module()
class ModelStepHook(Hook):
    """Calls ``model.set_progress`` before each iteration and ``model.after_optimizer_step`` after each applied step.

    The progress is the number of optimizer steps taken, divided by the number of optimizer steps of the run, in [0, 1].
    ``after_optimizer_step`` is called once per accumulation, and never for a step that the host knows to be skipped.

    If the host does not know the outcome yet, the hook hands its device flag to the EMA copies (``applied``), which
    multiply their update by it. The progress of the next forward pass is then one step ahead if the step was skipped.

    A run that starts from a checkpoint (``load_from``) with a momentum of 1 takes no EMA weights from it, see
    ``ImageTextPretrainer.without_fixed_copies``.
    """

    # Before the training monitor and the checkpoint hook, so that they see the model after its step.
    priority = 'ABOVE_NORMAL'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Leave out EMA weights of another run, before the weights are loaded."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if isinstance(model, ImageTextPretrainer) and not getattr(runner, '_resuming', False):
            checkpoint['state_dict'] = model.without_fixed_copies(checkpoint['state_dict'])

    def before_train(self, runner: Runner) -> None:
        """Start from the resumed number of steps."""
        self._model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._copies = [module for module in self._model.modules() if isinstance(module, MomentumCopy)]
        self._outcome = runner.optim_wrapper.outcome
        self._total_steps = -(-runner.max_iters // runner.optim_wrapper._accumulative_counts)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set the progress of the run."""
        self._set_progress(runner.optim_wrapper.steps_taken)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Update what follows the parameters, if this iteration ended with a step that was not skipped."""
        wrapper = runner.optim_wrapper
        if wrapper.outcome is self._outcome:
            return
        self._outcome = wrapper.outcome
        if self._outcome.skipped:
            return
        for copy in self._copies:
            copy.applied = self._outcome.applied if self._outcome.skipped is None else None
        if wrapper.steps_taken - 1 != self._steps_assumed:
            # The host has just learnt that the step before was skipped: the momentum must not be one step ahead.
            self._set_progress(wrapper.steps_taken - 1)
        self._model.after_optimizer_step()

    def _set_progress(self, steps_taken: int) -> None:
        self._steps_assumed = steps_taken
        self._model.set_progress(min(1.0, steps_taken / self._total_steps))
