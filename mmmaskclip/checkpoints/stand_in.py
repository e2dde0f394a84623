"""The one stand-in for classes that a checkpoint names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class StandIn:
    """Stands in for an object of a file that is neither tensor nor plain data: it keeps the state and runs nothing."""

    # Here, because some files make objects without calling __init__.
    state: Any = None

    def __init__(self, *args, **kwargs) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def tensors(self, prefix: str = '') -> dict[str, Tensor]:
        """Parameters and buffers of the module it stands for, by the names that a state dict gives them.

        Args:
            prefix: Put before every name. Defaults to nothing.
        """
        state = self.state if isinstance(self.state, Mapping) else {}
        if '_parameters' in state:
            # A module of Python; one of TorchScript has its members as attributes.
            unsaved = state.get('_non_persistent_buffers_set') or ()
            buffers = {name: value for name, value in (state.get('_buffers') or {}).items() if name not in unsaved}
            state = {**state['_parameters'], **buffers, **(state.get('_modules') or {})}
        tensors: dict[str, Tensor] = {}
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f'{prefix}{name}'] = value.detach()
            elif isinstance(value, StandIn):
                tensors |= value.tensors(f'{prefix}{name}.')
        return tensors
