"""Optimizer step in float32, bfloat16 or float16, on a GPU or a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
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

    Args:
        optimizer: The optimizer to step.
        precision: ``'fp32'``; ``'bf16'``, autocast without a loss scale; or ``'fp16'``, autocast with a dynamic loss
            scale, where a step with an infinite or NaN gradient is skipped and the scale is lowered. Parameters stay
            float32 in each. Defaults to ``'fp32'``.
        accumulative_counts: Iterations per optimizer step. Defaults to 1.
        clip_grad: ``dict(max_norm=..., norm_type=2.0)`` clips the global norm of the gradient; None clips nothing.

    Attributes:
        steps_taken (int): Optimizer steps really applied since the start of the run, resumed with the optimizer.
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
        self.grad_norm: Tensor | None = None
        device_type = optimizer.param_groups[0]['params'][0].device.type
        self._autocast = {'device_type': device_type, 'dtype': _AUTOCAST_DTYPES[precision]}
        self.scaler = torch.amp.GradScaler(device_type) if precision == 'fp16' else None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast for the forward pass; no gradient exchange in iterations that do not end an accumulation."""
        with (
            super().optim_context(model),
            torch.autocast(**self._autocast, enabled=self._autocast['dtype'] is not None),
        ):
            yield

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Back-propagate, scaled in float16."""
        super().backward(loss if self.scaler is None else self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs) -> None:
        """Measure and clip the gradient, then step; in float16 only if the gradient is finite."""
        if self.scaler is None:
            self._measure_and_clip()
            self.optimizer.step(**kwargs)
            self.steps_taken += 1
            return
        # Unscaled here even if nothing is clipped, so that grad_norm means the same in every precision.
        self.scaler.unscale_(self.optimizer)
        self._measure_and_clip()
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()
        # A lowered scale is the public sign of a skipped step. Reading it waits for the device, as GradScaler itself
        # does; bfloat16 has no such wait.
        self.steps_taken += int(self.scaler.get_scale() >= scale)

    def _measure_and_clip(self) -> None:
        params = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        clip = self.clip_grad_kwargs or {}
        norm = torch.nn.utils.get_total_norm([p.grad for p in params], clip.get('norm_type', 2.0))
        if clip:
            torch.nn.utils.clip_grads_with_norm_(params, clip['max_norm'], norm)
        self.grad_norm = norm.detach()

    def state_dict(self) -> dict:
        """The optimizer's state, ``steps_taken`` and, in float16, the loss scale."""
        state = super().state_dict()
        state['steps_taken'] = self.steps_taken
        if self.scaler is not None:
            state['scaler'] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what :meth:`state_dict` returned; a state saved in another precision keeps the fresh loss scale."""
        state_dict = dict(state_dict)
        self.steps_taken = state_dict.pop('steps_taken', 0)
        scaler = state_dict.pop('scaler', None)
        if self.scaler is not None and scaler is not None:
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)
