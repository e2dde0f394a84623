"""Optimizer step in float32, bfloat16 or float16, on a GPU or a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmmaskclip.registry import OPTIM_WRAPPERS

_AUTOCAST_DTYPES = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}
_CLIP_KEYS = {'max_norm', 'norm_type'}


@OPTIM_WRAPPERS.register_module()
class PretrainOptimWrapper(OptimWrapper):
    """mmengine's optimizer wrapper with autocast on any device and counters the hooks can trust.

    mmengine's ``AmpOptimWrapper`` refuses to run on a CPU and reads the gradient norm back to the host in every step,
    and neither of its wrappers tells whether a float16 step was skipped. Gradient accumulation is the base class's:
    ``accumulative_counts`` iterations make one step, and the last, shorter group of a run is scaled by its own length.

    A step whose gradient norm, or one of whose losses, is infinite or NaN on any process is skipped on all, in every
    precision; with accumulation the whole group is. A fused optimizer on a GPU is told on the device and the host
    learns it in :meth:`settle`, just before the next step, when the next forward and backward pass are already queued:
    no step waits for the device. Elsewhere the host reads it at once.

    Args:
        optimizer: The optimizer to step.
        precision: ``'fp32'``; ``'bf16'``, autocast without a loss scale; or ``'fp16'``, autocast with a dynamic loss
            scale, which a skipped step lowers. Parameters stay float32 in each. Defaults to ``'fp32'``.
        accumulative_counts: Iterations per optimizer step. Defaults to 1.
        clip_grad: ``dict(max_norm=..., norm_type=2.0)`` clips the global norm of the gradient; None clips nothing.

    Attributes:
        steps_taken (int): Optimizer steps really applied since the start of the run, resumed with the optimizer. One
            too many while ``step_taken`` is a tensor that holds 0.
        steps_skipped (int): Steps skipped since the start of the run, resumed too.
        step_taken (bool | Tensor): Whether the latest step was applied; a 0-dim float tensor, 1 or 0, on the device as
            long as the host does not know.
        on_skip (Callable | None): Called with whether a loss was not finite (rather than only the gradient) when a
            skipped step is settled, to take back what moved with it.
        grad_norm (Tensor | None): Norm of the last complete gradient, unscaled and before clipping: a 0-dim tensor on
            the parameters' device, never read by this class. None before the first step.

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
        self.step_taken: bool | Tensor = True
        self.on_skip: Callable[[bool], None] | None = None
        self.grad_norm: Tensor | None = None
        self._loss_fault: Tensor | None = None
        self._unread: tuple[Tensor, torch.cuda.Event | None] | None = None
        self._skipped_for_loss: bool | None = None
        self._deferred = _can_skip_on_device(optimizer)
        device_type = optimizer.param_groups[0]['params'][0].device.type
        self._autocast = {'device_type': device_type, 'dtype': _AUTOCAST_DTYPES[precision]}
        self.scaler = torch.amp.GradScaler(device_type) if precision == 'fp16' else None

    @property
    def steps_tried(self) -> int:
        """Steps taken or skipped: unlike ``steps_taken`` it never goes back."""
        return self.steps_taken + self.steps_skipped

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast for the forward pass; no gradient exchange in iterations that do not end an accumulation."""
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
        self.settle()
        if self.scaler is not None:
            # Unscaled here even if nothing is clipped, so that grad_norm means the same in every precision.
            self.scaler.unscale_(self.optimizer)
        self._measure_and_clip()
        faults = self._agree_on_faults()
        self.steps_taken += 1
        self.step_taken = 1 - faults[0]
        self._unread = _start_reading(faults)
        if not self._deferred:
            self._learn()
        if self.scaler is not None:
            self._scaled_step(faults[0], **kwargs)
        elif self._deferred:
            self._step_unless(faults[0], **kwargs)
        elif self.step_taken:
            self.optimizer.step(**kwargs)

    def settle(self) -> None:
        """Learn whether the latest step was taken; if not, correct the counters and call ``on_skip``, once.

        To be called before anything that depends on the number of steps outlives the step, like a checkpoint. It waits
        for the device to finish that step. Repeated calls do nothing.
        """
        self._learn()
        if self._skipped_for_loss is not None:
            for_loss, self._skipped_for_loss = self._skipped_for_loss, None
            if self.on_skip is not None:
                self.on_skip(for_loss)

    def _learn(self) -> None:
        if self._unread is None:
            return
        (faults, copied), self._unread = self._unread, None
        if copied is not None:
            copied.synchronize()
        skipped, loss_fault = (bool(fault) for fault in faults.tolist())
        self.step_taken = not skipped
        if skipped:
            self.steps_taken -= 1
            self.steps_skipped += 1
            self._skipped_for_loss = loss_fault

    def _agree_on_faults(self) -> Tensor:
        """(2,), 1 or 0, equal on all processes: nothing must be stepped; a loss was not finite."""
        assert self.grad_norm is not None
        gradient_fault = ~self.grad_norm.isfinite()
        loss_fault = torch.zeros_like(gradient_fault) if self._loss_fault is None else self._loss_fault
        self._loss_fault = None
        faults = torch.stack([gradient_fault | loss_fault, loss_fault]).float()
        # DDP has made the gradients equal, but neither the losses nor what a faulty device makes of the gradients.
        all_reduce(faults, op='max')
        return faults

    def _scaled_step(self, fault: Tensor, **kwargs) -> None:
        assert self.scaler is not None
        # GradScaler decides per process and has no public way to be told; torch's ShardedGradScaler does the same.
        for found in self.scaler._per_optimizer_states[id(self.optimizer)]['found_inf_per_device'].values():
            torch.maximum(found, fault, out=found)
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def _step_unless(self, fault: Tensor, **kwargs) -> None:
        # As GradScaler hands it to optimizers that skip on the device.
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
        if hasattr(norm, 'full_tensor'):  # sharded parameters give the norm of a shard
            norm = norm.full_tensor()
        if clip:
            torch.nn.utils.clip_grads_with_norm_(params, clip['max_norm'], norm)
        self.grad_norm = norm.detach()

    def state_dict(self) -> dict:
        """The optimizer's state, the counters of steps and, in float16, the loss scale; settles the latest step."""
        self.settle()
        state = super().state_dict()
        state['steps_taken'] = self.steps_taken
        state['steps_skipped'] = self.steps_skipped
        if self.scaler is not None:
            state['scaler'] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what :meth:`state_dict` returned; a state saved in another precision keeps the fresh loss scale."""
        state_dict = dict(state_dict)
        self.steps_taken = state_dict.pop('steps_taken', 0)
        self.steps_skipped = state_dict.pop('steps_skipped', 0)
        scaler = state_dict.pop('scaler', None)
        if self.scaler is not None and scaler is not None:
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)


def _can_skip_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step can be skipped without the host knowing: fused kernels on a GPU, which ask a flag there."""
    params = [param for group in optimizer.param_groups for param in group['params']]
    return getattr(optimizer, '_step_supports_amp_scaling', False) and all(
        # Sharded parameters are DTensors, which do not mix with a plain flag.
        param.is_cuda and not hasattr(param, 'full_tensor')
        for param in params
    )


def _start_reading(values: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Copy to the host without waiting; the copy may be read once the event, if any, is synchronized."""
    if not values.is_cuda:
        return values, None
    host = torch.empty_like(values, device='cpu', pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return host, copied
