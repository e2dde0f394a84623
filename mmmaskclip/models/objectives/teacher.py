"""Modules that follow others by exponential moving average."""

from collections.abc import Iterable
from copy import deepcopy
from functools import cached_property

import torch
from torch import Tensor, nn


class MomentumCopy(nn.Module):
    """A frozen copy of a module, always in eval mode, that follows it: the paper's EMA model (MaskCLIP, Eq. 3).

    mmengine's and torch's averaged models compare a step counter on the device, which makes the host wait in every
    step. mmengine's also loops over parameters in Python, and both can go into training mode.

    Buffers follow too: finite floating-point ones, such as the statistics of a batch norm, as parameters do; all
    others, such as counters, are copied.

    Calling it calls the copy, without gradients.

    Args:
        source: The module to copy and follow. It is not registered as a child.

    Attributes:
        applied (Tensor | None): 0-dim float tensor, 1 or 0, on the parameters' device: the copy follows only if it
            holds 1, for an optimizer step of which only the device knows whether it was skipped. None by default: the
            copy follows.
    """

    def __init__(self, source: nn.Module):
        super().__init__()
        self.module = deepcopy(source).requires_grad_(False).eval()
        # In a tuple, because an attribute that is a module would be registered and saved a second time.
        self._source = (source,)
        self.applied: Tensor | None = None
        self.register_load_state_dict_pre_hook(_copy_source_if_absent)

    def train(self, mode: bool = True) -> 'MomentumCopy':
        """Stay in eval mode: targets must not depend on drop path or dropout."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def reset(self) -> None:
        """Take over the source's parameters and buffers, for example after its initialization."""
        self.module.load_state_dict(self._source[0].state_dict())

    @cached_property
    def averaged_pairs(self) -> list[tuple[Tensor, Tensor]]:
        """(copy, source) pairs of all parameters and of the buffers that are averaged."""
        parameters = zip(self.module.parameters(), self._source[0].parameters(), strict=True)
        return [*parameters, *(pair for pair in self._buffer_pairs() if _can_be_averaged(pair[1]))]

    @cached_property
    def copied_pairs(self) -> list[tuple[Tensor, Tensor]]:
        """(copy, source) pairs of the other buffers."""
        return [pair for pair in self._buffer_pairs() if not _can_be_averaged(pair[1])]

    def _apply(self, *args, **kwargs) -> 'MomentumCopy':
        # Moving a module to a device replaces its buffers, so the kept pairs would name the old ones.
        self.__dict__.pop('averaged_pairs', None)
        self.__dict__.pop('copied_pairs', None)
        return super()._apply(*args, **kwargs)

    def _buffer_pairs(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.module.buffers(), self._source[0].buffers(), strict=True))

    def follow(self, momentum: float) -> None:
        """Move towards the source: copy = momentum * copy + (1 - momentum) * source.

        If ``applied`` holds 0 the copy stays, bit for bit.
        """
        if self.averaged_pairs:
            copies, sources = zip(*self.averaged_pairs, strict=True)
            if self.applied is None:
                torch._foreach_lerp_(copies, sources, 1 - momentum)
            else:
                move(copies, sources, self.applied * (1 - momentum))
        for copy, source in self.copied_pairs:
            copy.copy_(source if self.applied is None else torch.where(self.applied > 0, source, copy))


def move(copies: tuple[Tensor, ...], sources: tuple[Tensor, ...], share: Tensor) -> None:
    """Move each copy a share of its way to its source; with a share of 0, on the device, none changes a bit."""
    if share.is_cuda:
        # lerp with a tensor as weight runs one kernel per tensor; these three run one each, but differ in the last bit.
        steps = torch._foreach_sub(sources, copies)
        torch._foreach_mul_(steps, share)
        torch._foreach_add_(copies, steps)
    else:
        torch._foreach_lerp_(copies, sources, [share] * len(copies))


def _can_be_averaged(buffer: Tensor) -> bool:
    # The mean with an infinity, e.g. of an attention mask, would be NaN.
    return buffer.is_floating_point() and bool(buffer.isfinite().all())


def _copy_source_if_absent(copy: MomentumCopy, state_dict: dict, prefix: str, *_) -> None:
    """Start a teacher from its student when a checkpoint has none, so that a CLIP checkpoint can continue as MaskCLIP.

    Children load in the order of their registration, and a copy is registered after its source.
    """
    if not any(name.startswith(prefix) for name in state_dict):
        for name, value in copy._source[0].state_dict().items():
            state_dict[f'{prefix}module.{name}'] = value


@torch.no_grad()
def follow(copies: Iterable[MomentumCopy], momentum: float) -> None:
    """Let all copies follow their sources, see :meth:`MomentumCopy.follow`; with a momentum of 1 they stay."""
    if momentum == 1:
        return
    for copy in copies:
        copy.follow(momentum)
