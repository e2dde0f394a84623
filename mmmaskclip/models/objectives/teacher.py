"""Modules that follow others by exponential moving average."""

from collections.abc import Iterable
from copy import deepcopy
from functools import cached_property

import torch
from torch import Tensor, nn


class MomentumCopy(nn.Module):
    """A frozen copy of a module, always in eval mode, that follows it: the paper's EMA model (MaskCLIP, Eq. 3).

    mmengine's and torch's averaged models compare a step counter on the device, which makes the host wait in every
    step; the first also loops over parameters in Python, and both can go into training mode.

    Calling it calls the copy, without gradients.

    Args:
        source: The module to copy and follow. It is not registered as a child.

    Attributes:
        step_taken (Tensor | None): 0-dim float tensor, 1 or 0, on the parameters' device: the copy follows only if it
            holds 1, for an optimizer step of which only the device knows whether it was skipped. None by default: the
            copy follows.
    """

    def __init__(self, source: nn.Module):
        super().__init__()
        self.module = deepcopy(source).requires_grad_(False).eval()
        # In a tuple, because an attribute that is a module would be registered and saved a second time.
        self._source = (source,)
        self.step_taken: Tensor | None = None
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
    def parameter_pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """(copy, source) pairs of all parameters."""
        return list(zip(self.module.parameters(), self._source[0].parameters(), strict=True))


def _copy_source_if_absent(copy: MomentumCopy, state_dict: dict, prefix: str, *_) -> None:
    """Start a teacher from its student when a checkpoint has none, so that a CLIP checkpoint can continue as MaskCLIP.

    Children load in the order of their registration, and a copy is registered after its source.
    """
    if not any(name.startswith(prefix) for name in state_dict):
        for name, value in copy._source[0].state_dict().items():
            state_dict[f'{prefix}module.{name}'] = value


@torch.no_grad()
def follow(copies: Iterable[MomentumCopy], momentum: float) -> None:
    """Move all copies towards their sources: copy = momentum * copy + (1 - momentum) * source.

    One fused call for all parameters of all copies. A copy whose ``step_taken`` holds 0 stays, bit for bit.
    """
    pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
    weights: list[Tensor] = []
    for copy in copies:
        pairs += copy.parameter_pairs
        if copy.step_taken is not None:
            weights += [copy.step_taken * (1 - momentum)] * len(copy.parameter_pairs)
    if pairs:
        followers, sources = zip(*pairs, strict=True)
        torch._foreach_lerp_(followers, sources, weights or 1 - momentum)
