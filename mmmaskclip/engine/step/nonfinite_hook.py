"""Undoes skipped steps (a loss or the gradient was not finite), lists them, and stops after too many in a row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook
from mmengine.optim import _ParamScheduler
from mmengine.runner import Runner
from torch import Tensor

from mmmaskclip.engine.step.optim_wrapper import PretrainOptimWrapper
from mmmaskclip.engine.step.outcome import StepOutcome
from mmmaskclip.registry import HOOKS
from mmmaskclip.utils.json_lines import append_json_lines

_FILE = 'nonfinite.jsonl'
_NAMED_SAMPLES = 8


@dataclass
class _Step:
    """The iterations of one optimizer step, and the schedules as they were before it."""

    schedules: list[dict]
    param_groups: list[dict]
    iterations: list[tuple[int, list[str], dict[str, Tensor]]] = field(default_factory=list)
    # Both are None until the step has ended.
    grad_norm: Tensor | None = None
    outcome: StepOutcome | None = None


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Undoes what moved with a skipped optimizer step, reports the step, and stops a run that skips too many.

    Undone are the schedules by iterations and the model's buffers (centre of the codewords, statistics of batch norms).
    They return to their values before the step, or before the whole accumulation. Buffers return on the device, in the
    same iteration. Schedules return as soon as the host knows the outcome, always before the next step uses them.

    Every iteration of a skipped step is appended to ``nonfinite.jsonl`` in the work directory, one line per rank:
    iteration, losses, names of the losses that are not finite, gradient norm and names of the samples.

    In float16 the loss scale finds its size by overflows, with finite losses. Such a step is skipped too, but reported
    and counted only once the scale has come down to 1.

    Args:
        max_in_a_row: Training stops after this many reported steps with no applied step in between. Defaults to 10.

    Raises:
        TypeError: Before training, if the optimizer wrapper is not a ``PretrainOptimWrapper``, which skips the steps.
        RuntimeError: On all ranks, after ``max_in_a_row`` reported steps. It names losses, ranks and samples.
    """

    # After ParamSchedulerHook, a default hook of the same priority, and before checkpoints.
    priority = 'LOW'

    def __init__(self, max_in_a_row: int = 10) -> None:
        self.max_in_a_row = max_in_a_row
        self._current: _Step | None = None
        self._ended: _Step | None = None
        self._records: list[list[dict]] = []
        self._buffers: list[Tensor] | None = None

    def before_train(self, runner: Runner) -> None:
        """Find what a step moves beside the parameters."""
        if not isinstance(runner.optim_wrapper, PretrainOptimWrapper):
            raise TypeError(
                f'NonFiniteHook needs an optimizer wrapper that can skip steps, but optim_wrapper.type is '
                f"{type(runner.optim_wrapper).__name__}: set it to 'mmmaskclip.PretrainOptimWrapper'."
            )
        self._wrapper: PretrainOptimWrapper = runner.optim_wrapper
        self._schedulers = list(_by_iteration(runner.param_schedulers))
        self._outcome = self._wrapper.outcome
        self._iterations_since = 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Remember what a skipped step must not move."""
        if self._current is not None:
            return
        if self._buffers is None:
            modules = [module for module in runner.model.modules() if module.training]
            self._buffers = [buffer for module in modules for buffer in module.buffers(recurse=False)]
            self._saved_buffers = [buffer.clone() for buffer in self._buffers]
        elif self._buffers:
            torch._foreach_copy_(self._saved_buffers, self._buffers)
        self._current = _Step(
            [scheduler.state_dict() for scheduler in self._schedulers],
            [_without_params(group) for group in self._wrapper.param_groups],
        )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Undo a skipped step, and report the steps whose outcome is known."""
        assert self._current is not None
        self._current.iterations.append((runner.iter + 1, _sample_names(data_batch), dict(outputs or {})))
        outcome, known = self._wrapper.outcome, False
        if outcome is None or outcome is self._outcome:
            self._iterations_since += 1
        else:
            known = outcome.skipped is not None
            # The wrapper has read the outcome of the step before this one.
            self._judge(runner)
            self._end_step(outcome)
        # At once where the host knows at once; else at the end of an epoch, before schedules by epochs move, which a
        # skipped step must not undo. Never because a checkpoint needed the outcome: ranks report together, and that
        # may have happened on one rank alone.
        if known or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self._judge_latest(runner)

    def after_train(self, runner: Runner) -> None:
        """Report the last step."""
        self._judge_latest(runner)

    def _end_step(self, outcome: StepOutcome) -> None:
        assert self._current is not None
        step, self._current, self._iterations_since = self._current, None, 0
        self._outcome = outcome
        step.grad_norm, step.outcome = self._wrapper.grad_norm, outcome
        self._ended = step
        self._restore_buffers(outcome)
        outcome.if_skipped(partial(self._restore_schedules, step))

    def _restore_buffers(self, outcome: StepOutcome) -> None:
        if outcome.skipped is False or not self._buffers:
            return
        for buffer, saved in zip(self._buffers, self._saved_buffers, strict=True):
            # Not a weighted sum: zero times NaN is NaN.
            buffer.copy_(saved if outcome.skipped else torch.where(outcome.applied > 0, buffer, saved))

    def _restore_schedules(self, step: _Step) -> None:
        """Restore the schedules to before the step, then repeat the iterations that came after it."""
        for group, values in zip(self._wrapper.param_groups, step.param_groups, strict=True):
            group.update(values)
        for scheduler, state in zip(self._schedulers, step.schedules, strict=True):
            scheduler.load_state_dict(state)
        if self._current is not None:
            self._current.schedules, self._current.param_groups = step.schedules, step.param_groups
        for _ in range(self._iterations_since):
            for scheduler in self._schedulers:
                scheduler.step()

    def _judge_latest(self, runner: Runner) -> None:
        if self._wrapper.outcome is not None:
            self._wrapper.outcome.read()
        self._judge(runner)

    def _judge(self, runner: Runner) -> None:
        """Report the step that ended last if it was skipped. All ranks call it in the same iteration."""
        step, self._ended = self._ended, None
        if step is None:
            return
        assert step.outcome is not None
        if not step.outcome.skipped:
            self._records.clear()
            return
        scaler = self._wrapper.scaler
        if scaler is not None and not step.outcome.loss_fault and scaler.get_scale() > 1:
            return
        # Not gather_object, which NCCL lacks.
        records = [record for part in all_gather_object(_records(step)) for record in part]
        self._records.append(records)
        path = Path(runner.work_dir) / _FILE
        if get_rank() == 0:
            append_json_lines(path, records)
        message = f'{_describe(records)} Listed in {path}'
        if len(self._records) >= self.max_in_a_row:
            raise RuntimeError(
                f'{len(self._records)} optimizer steps in a row had to be skipped, the last in iteration '
                f'{records[-1]["iteration"]}: {message}. The parameters are those before the first of them. Check '
                'these samples; if several batches fail, lower the learning rate and resume from an older checkpoint.'
            )
        runner.logger.warning(f'Optimizer step of iteration {records[-1]["iteration"]} skipped: {message}.')


def _by_iteration(schedulers: list | dict | None) -> Iterator[_ParamScheduler]:
    lists = schedulers.values() if isinstance(schedulers, dict) else [schedulers or []]
    return (scheduler for part in lists for scheduler in part if not scheduler.by_epoch)


def _without_params(group: dict) -> dict:
    return {name: value for name, value in group.items() if name != 'params'}


def _sample_names(batch: Any) -> list[str]:
    """Names of the samples of a batch: ``key`` in our batches, the path or id in ``data_samples`` of the toolboxes."""
    if 'key' in batch:
        return [str(key) for key in batch['key']]
    samples = batch.get('data_samples') or ()
    return [str(sample.get('img_path', sample.get('img_id', 'unnamed'))) for sample in samples]


def _records(step: _Step) -> list[dict]:
    """This rank's lines for the file. NaN and infinities become strings, which JSON lacks."""
    assert step.grad_norm is not None
    records = []
    for iteration, samples, outputs in step.iterations:
        terms = {name: float(value) for name, value in outputs.items()}
        records.append(
            dict(
                iteration=iteration,
                rank=get_rank(),
                not_finite=[name for name, value in terms.items() if not math.isfinite(value)],
                losses={name: _json_number(value) for name, value in terms.items()},
                grad_norm=_json_number(float(step.grad_norm)),
                samples=samples,
            )
        )
    return records


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _describe(records: list[dict]) -> str:
    """Name the losses that are not finite, their ranks and samples; if all losses are finite, the ranks' gradients."""
    guilty = [record for record in records if record['not_finite']]
    parts = [f'{", ".join(record["not_finite"])} of rank {record["rank"]}' for record in guilty]
    if not guilty:
        guilty = [record for record in records if isinstance(record['grad_norm'], str)]
        ranks = sorted({record['rank'] for record in guilty})
        parts = [f'the gradient (all losses are finite) of rank {", ".join(map(str, ranks))}']
    names = (name for record in guilty for name in record['samples'])
    shown = ', '.join(islice(names, _NAMED_SAMPLES))
    more = sum(len(record['samples']) for record in guilty) - _NAMED_SAMPLES
    return f'not finite: {"; ".join(parts)}; samples {shown}{f" and {more} more" if more > 0 else ""}.'
