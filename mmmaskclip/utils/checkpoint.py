"""Loading weights without running code from the file."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class _Inert:
    """Stands in for objects of a checkpoint that are neither tensors nor plain data, such as mmengine's log history."""

    def __init__(self, *args, **kwargs) -> None: ...

    def __setstate__(self, state: object) -> None: ...


# mmengine's own list allows the real getattr, with which a crafted file reaches any function; the log history of a
# checkpoint needs the name only because it pickles its bound methods.
_ALLOWED: list[Any] = [
    (_Inert, 'builtins.getattr'),
    (_Inert, 'mmengine.logging.history_buffer.HistoryBuffer'),
    *((np.empty(0).__reduce__()[0], f'numpy.{core}.multiarray._reconstruct') for core in ('core', '_core')),
    np.ndarray,
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.int64)),
    *((np.float64(0).__reduce__()[0], f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
]


def read_state_dict(path: str | os.PathLike) -> dict[str, Tensor]:
    """Parameters and buffers of a checkpoint, on the CPU; nothing in the file is executed.

    Args:
        path: A checkpoint of mmengine's Runner (its ``state_dict`` is taken) or a file with only a state dict.

    Returns:
        Tensors by name, without a leading ``module.``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, holds objects that are not allowed, or no state dict.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'There is no checkpoint {os.fspath(path)!r}.')
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        foreign = re.search(r'GLOBAL (\S+)', str(error))
        reason = (
            f'refers to {foreign[1]}, which could run code, so it is not loaded; save it again with only tensors'
            if foreign
            else f'is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})'
        )
        raise ValueError(f'{os.fspath(path)!r} {reason}.') from error
    state_dict = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, Mapping) else None
    if not state_dict or not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise ValueError(f'{os.fspath(path)!r} holds no state dict of tensors.')
    return {re.sub(r'^module\.', '', name): value for name, value in state_dict.items()}


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Load all weights of ``model`` from a checkpoint; nothing may be missing, left over or of another shape.

    Args:
        model: The model, not wrapped.
        path: See :func:`read_state_dict`, whose errors also apply.

    Raises:
        ValueError: If names or shapes differ; the message lists them.
    """
    state_dict = read_state_dict(path)
    try:
        missing, unexpected = model.load_state_dict(state_dict, strict=False)
        problems = [
            f'{len(names)} {what}: {", ".join(names[:5])}{", ..." if len(names) > 5 else ""}'
            for what, names in (('missing', missing), ('not in the model', unexpected))
            if names
        ]
    except RuntimeError as error:
        problems = [line.strip() for line in str(error).splitlines()[1:6]]
    if problems:
        raise ValueError(
            f'{os.fspath(path)!r} does not fit {type(model).__name__} as configured. '
            + '; '.join(problems)
            + '. Use the config the checkpoint was trained with.'
        )
