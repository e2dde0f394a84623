"""Optimizer step in float32, bfloat16 or float16, on a GPU or a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mmmaskclip.engine.step.outcome import StepOutcome
from mmmaskclip.registry import OPTIM_WRAPPERS

_AUTOCAST_DTYPES = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}
_CLIP_KEYS = {'max_norm', 'norm_type'}


@OPTIM_WRAPPERS.register_module()
class PretrainOptimWrapper(OptimWrapper):
    """mmengine's optimizer wrapper with autocast on any device, which skips steps that are not finite and counts them.

    mmengine's ``AmpOptimWrapper`` refuses to run on a CPU and reads the gradient norm on the host in every step, and
    neither of its wrappers says whether a float16 step was skipped. Gradient accumulation is the base class's:
    ``accumulative_counts`` iterations make one step, and the last, shorter group of a run is scaled by its own length.

    A step is skipped on all processes, in every precision, if its gradient norm or one of its losses is infinite or NaN
    on any process. With accumulation the whole group is skipped. The timeline in :mod:`mmmaskclip.engine.step` says
    when the host learns it.

    Args:
        optimizer: The optimizer to step.
        precision: ``'fp32'``; ``'bf16'``, autocast without a loss scale; or ``'fp16'``, autocast with a dynamic loss
            scale, which a skipped step lowers. Parameters stay float32 in each. Defaults to ``'fp32'``.
        accumulative_counts: Iterations per optimizer step. Defaults to 1.
        clip_grad: ``dict(max_norm=..., norm_type=2.0)`` clips the global norm of the gradient; None clips nothing.

    Attributes:
        steps_taken (int): Optimizer steps applied since the start of the run; a resumed run continues the count. While
            the host does not know the latest outcome, that step counts as applied.
        steps_skipped (int): Optimizer steps skipped since the start of the run, continued likewise.
        outcome (StepOutcome | None): What became of the latest step. None before the first.
        grad_norm (Tensor | None): Norm of the latest complete gradient, unscaled and before clipping: a 0-dim tensor on
            the parameters' device. None before the first step.
        reads_late (bool): Whether the host learns the outcome of a step only before the next one, because the device
            skips by itself. Otherwise the host learns it within :meth:`step`.
        stop_requested (bool): Set it to ask all processes to stop; the next step's outcome carries it to them.

    Raises:
        ValueError: If ``precision`` or a key of ``clip_grad`` is not one of the above.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        precision: str = 'fp32',
        accumulative_counts: int = 1,
        clip_grad: dict | None = None,
    ) -> None:
        if precision not in _AUTOCAST_DTYPES:
            raise ValueError(
                f'precision={precision!r} is unknown: use one of {", ".join(map(repr, _AUTOCAST_DTYPES))}.'
            )
        if clip_grad is not None and ('max_norm' not in clip_grad or not set(clip_grad) <= _CLIP_KEYS):
            raise ValueError(f'clip_grad={dict(clip_grad)!r}: expected dict(max_norm=..., norm_type=2.0) or None.')
        super().__init__(optimizer, accumulative_counts, None if clip_grad is None else dict(clip_grad))
        self.precision = precision
        self.steps_taken = 0
        self.steps_skipped = 0
        self.outcome: StepOutcome | None = None
        self.stop_requested = False
        self.grad_norm: Tensor | None = None
        self._loss_fault: Tensor | None = None
        self.reads_late = _can_skip_on_device(optimizer)
        device_type = optimizer.param_groups[0]['params'][0].device.type
        self._autocast = {'device_type': device_type, 'dtype': _AUTOCAST_DTYPES[precision]}
        self.scaler = torch.amp.GradScaler(device_type) if precision == 'fp16' else None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast for the forward pass; processes exchange gradients only where an accumulation ends."""
        with (
            super().optim_context(model),
            torch.autocast(**self._autocast, enabled=self._autocast['dtype'] is not None),
        ):
            yield

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Back-propagate, scaled in float16, and remember on the device whether the loss was finite."""
        fault = ~loss.detach().isfinite().all()
        self._loss_fault = fault if self._loss_fault is None else self._loss_fault | fault
        super().backward(loss if self.scaler is None else self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs) -> None:
        """Measure and clip the gradient, then step if it and the losses it comes from are finite on all processes."""
        self._read_outcome()  # of the step before
        if self.scaler is not None:
            # Unscaled here even if nothing is clipped, so that grad_norm means the same in every precision.
            self.scaler.unscale_(self.optimizer)
        self._measure_and_clip()
        flags = self._agree_on_flags()
        self.steps_taken += 1
        self.outcome = StepOutcome(flags)
        self.outcome.if_skipped(self._count_as_skipped)
        if not self.reads_late:
            self.outcome.read()
        if self.scaler is not None:
            self._scaled_step(flags[0], **kwargs)
        elif self.reads_late:
            self._step_unless(flags[0], **kwargs)
        elif not self.outcome.skipped:
            self.optimizer.step(**kwargs)

    def _read_outcome(self) -> None:
        if self.outcome is not None:
            self.outcome.read()

    def _count_as_skipped(self) -> None:
        self.steps_taken -= 1
        self.steps_skipped += 1

    def _agree_on_flags(self) -> Tensor:
        """The flags of :class:`StepOutcome`, (3,): the maximum over all processes, in one all-reduce."""
        assert self.grad_norm is not None
        gradient_fault = ~self.grad_norm.isfinite()
        loss_fault = torch.zeros_like(gradient_fault) if self._loss_fault is None else self._loss_fault
        self._loss_fault = None
        stop = torch.full_like(gradient_fault, self.stop_requested)
        flags = torch.stack([gradient_fault | loss_fault, loss_fault, stop]).float()
        # DDP averages the gradients, so all processes have the same. Each has losses of its own, though, and a faulty
        # device may compute another norm from the same gradients.
        all_reduce(flags, op='max')
        return flags

    def _scaled_step(self, fault: Tensor, **kwargs) -> None:
        assert self.scaler is not None
        # Each process's GradScaler looks at its own gradients alone, and no public method gives it the flag of all
        # processes. torch's ShardedGradScaler writes into the same dict.
        for found in self.scaler._per_optimizer_states[id(self.optimizer)]['found_inf_per_device'].values():
            torch.maximum(found, fault, out=found)
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def _step_unless(self, fault: Tensor, **kwargs) -> None:
        # A fused optimizer reads the attribute `found_inf` on the device; GradScaler sets it in the same way.
        optimizer: Any = self.optimizer
        optimizer.found_inf = fault
        try:
            optimizer.step(**kwargs)
        finally:
            del optimizer.found_inf

    def _measure_and_clip(self) -> None:
        params = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        clip = self.clip_grad_kwargs or {}
        norm = torch.nn.utils.get_total_norm([p.grad for p in params], clip.get('norm_type', 2.0))
        if isinstance(norm, DTensor):  # of sharded parameters: each process holds a part of the norm
            norm = norm.full_tensor()
        if clip:
            torch.nn.utils.clip_grads_with_norm_(params, clip['max_norm'], norm)
        self.grad_norm = norm.detach()

    def state_dict(self) -> dict:
        """The optimizer's state, both counters and, in float16, the loss scale. Reads the latest outcome first."""
        self._read_outcome()
        state = super().state_dict()
        state['steps_taken'] = self.steps_taken
        state['steps_skipped'] = self.steps_skipped
        if self.scaler is not None:
            state['scaler'] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what :meth:`state_dict` returned. A state without a loss scale leaves it at its start."""
        state_dict = dict(state_dict)
        self.steps_taken = state_dict.pop('steps_taken', 0)
        self.steps_skipped = state_dict.pop('steps_skipped', 0)
        scaler = state_dict.pop('scaler', None)
        if self.scaler is not None and scaler is not None:
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)


def _can_skip_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the device skips a step by itself: fused kernels on a GPU read a flag there."""
    params = [param for group in optimizer.param_groups for param in group['params']]
    return getattr(optimizer, '_step_supports_amp_scaling', False) and all(
        # Sharded parameters are DTensors, which do not mix with a plain flag.
        param.is_cuda and not isinstance(param, DTensor)
        for param in params
    )
