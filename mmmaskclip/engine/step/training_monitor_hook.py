"""Collects the scalars of a training run for the log, without making the device wait."""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mmmaskclip.contracts import FollowsRun
from mmmaskclip.datasets.sampling import lost_samples
from mmmaskclip.registry import HOOKS


@HOOKS.register_module()
class TrainingMonitorHook(RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook``, which reads training scalars once per log interval.

    The base class reads every loss on the host in every iteration, for which a GPU waits each time, and logs rank 0's
    values. This hook keeps losses and gradient norm on the device until the interval of the run's ``LoggerHook`` (or
    the epoch) ends. Then one reduction over the ranks and one read give, for the interval,

    * each loss and ``grad_norm``: the mean over the iterations and ranks where it is finite, NaN if it is nowhere,
    * the last value of everything in ``model.logged()`` (temperature, teacher momentum, ...),
    * ``lr`` of every parameter group's kind, as used in the last iteration,
    * ``images_per_second`` of all ranks together and ``step_time`` (seconds), with checkpoints but without validation,
    * ``data_share``: share of the time that the loop waited for data,
    * ``memory`` (MB): peak of this rank's GPU memory, or on a CPU of its process's resident memory,
    * ``skipped``: bad samples so far, of all ranks; a resumed run continues the count,
    * ``skipped_steps``: optimizer steps skipped so far; the latest one may be missing if the host learns it later.

    Set it in place of the base class: ``default_hooks = dict(runtime_info=dict(type='TrainingMonitorHook'))``.
    """

    # After ModelStepHook, so that the logged momentum is that of the step; before LoggerHook, which prints.
    priority = 'NORMAL'
    _begin: float | None = None  # of the clock, which stands still where only validation runs

    def before_train(self, runner: Runner) -> None:
        """Find the log interval and the count of skipped samples of a resumed run."""
        super().before_train(runner)
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._interval = loggers[0].interval if loggers else 1
        skipped = runner.message_hub.log_scalars.get('train/skipped')
        self._skipped = 0 if skipped is None else int(skipped.current())
        self._outcome = runner.optim_wrapper.outcome
        self._model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._reset()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Note the iteration. The base class would append the learning rates to a history in every iteration."""
        runner.message_hub.update_info('iter', runner.iter)

    def before_train_epoch(self, runner: Runner) -> None:
        """Restart the clock, so that validation between epochs does not count."""
        super().before_train_epoch(runner)
        self._reset()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Keep this iteration's values; at the end of an interval send them to the log.

        Args:
            runner: The runner.
            batch_idx: Index of the batch in its epoch.
            data_batch: The batch; ``key`` gives the number of images, ``skipped`` lists the samples lost on the way.
            outputs: Losses and other scalars of the step.
        """
        for name, value in (outputs or {}).items():
            self._values[name].append(value.detach())
        if runner.optim_wrapper.outcome is not self._outcome:
            self._outcome = runner.optim_wrapper.outcome
            self._values['grad_norm'].append(runner.optim_wrapper.grad_norm)
        self._iterations += 1
        self._images += len(data_batch['key'])
        self._new_skipped += lost_samples(data_batch.get('skipped', ()))
        self._waited += runner.train_loop.data_wait
        if self.every_n_inner_iters(batch_idx, self._interval) or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self._flush(runner)
            self._reset()

    def before_val(self, runner: Runner) -> None:
        """Stop the clock: validation can come between two iterations of an interval."""
        self._val_begin = time.perf_counter()

    def after_val(self, runner: Runner) -> None:
        """Continue the clock."""
        if self._begin is not None:
            self._begin += time.perf_counter() - self._val_begin

    def _reset(self) -> None:
        self._values: dict[str, list[Tensor]] = defaultdict(list)
        self._iterations = self._images = self._new_skipped = 0
        self._waited = 0.0
        self._begin = time.perf_counter()

    def _flush(self, runner: Runner) -> None:
        device = next(self._model.parameters()).device
        # Models of the toolboxes have only losses to log.
        for name, value in (self._model.logged() if isinstance(self._model, FollowsRun) else {}).items():
            self._values[name] = [torch.as_tensor(value, device=device)]
        sums_and_counts = torch.stack([_sum_and_count(values) for values in self._values.values()], dim=1)
        # This read is the only wait for the device. The clock is read after it, when the device's work is done.
        sums_and_counts = sums_and_counts.cpu()
        elapsed = time.perf_counter() - self._begin
        host = torch.tensor([self._images, self._new_skipped, self._waited, elapsed], dtype=torch.float64)
        total = torch.cat([sums_and_counts.flatten(), host])
        all_reduce(total)
        images, skipped, waited, elapsed = total[-4:].tolist()
        self._skipped += int(skipped)
        sums, counts = total[:-4].view(2, -1)
        means = sums / counts
        scalars: dict[str, float] = {name: lr[0] for name, lr in runner.optim_wrapper.get_lr().items()}
        scalars.update(zip(self._values, means.tolist(), strict=True))
        scalars.update(
            images_per_second=images / (elapsed / get_world_size()),
            step_time=elapsed / get_world_size() / self._iterations,
            data_share=waited / elapsed,
            memory=_peak_memory_mb(device),
            skipped=self._skipped,
            skipped_steps=runner.optim_wrapper.steps_skipped,
        )
        for name, value in scalars.items():
            runner.message_hub.update_scalar(f'train/{name}', value)


def _sum_and_count(values: list[Tensor]) -> Tensor:
    """Sum and number (2,) of the finite values; one NaN would hide all others of its interval."""
    stacked = torch.stack(values).double()
    finite = stacked.isfinite()
    return torch.stack([stacked.where(finite, 0.0).sum(), finite.sum()])


def _peak_memory_mb(device: torch.device) -> int:
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) // 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, but bytes on macOS
    return peak // (2**20 if sys.platform == 'darwin' else 2**10)
