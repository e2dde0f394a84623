"""Loading weights, ours and those of other CLIPs, without running code from the file."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmmaskclip.utils.hf_clip_weights import convert_hf_clip
from mmmaskclip.utils.open_clip_weights import convert_open_clip
from mmmaskclip.utils.torchscript_weights import is_torchscript, read_torchscript


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
        path: A checkpoint of mmengine's Runner (its ``state_dict`` is taken), a file with only a state dict, a
            ``.safetensors`` file or a TorchScript archive.

    Returns:
        Tensors by name, without a leading ``module.``.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If it is a ``.safetensors`` file and that package is missing.
        ValueError: If the file is damaged, holds objects that are not allowed, or no state dict.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'There is no checkpoint {os.fspath(path)!r}.')
    try:
        checkpoint = _read(path)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
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


def _read(path: str | os.PathLike) -> Any:
    if os.fspath(path).endswith('.safetensors'):
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError as error:
            raise ImportError(f'{os.fspath(path)!r} needs a package to be read: pip install safetensors') from error
        try:
            return load_file(path)
        except SafetensorError as error:
            raise OSError(str(error)) from error
    if is_torchscript(path):
        return read_torchscript(path)
    with torch.serialization.safe_globals(_ALLOWED):
        return torch.load(path, map_location='cpu', weights_only=True)


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Load all weights of ``model`` from a checkpoint; nothing may be missing, left over or of another shape.

    Checkpoints of other CLIPs are told by their names and translated: OpenAI's archives, OpenCLIP's files and Hugging
    Face's ``pytorch_model.bin`` or ``model.safetensors``. Their models are in ``configs/foreign``.

    Args:
        model: The model, not wrapped.
        path: See :func:`read_state_dict`, whose errors also apply.

    Raises:
        ValueError: If names or shapes differ; the message lists them. If the file is of another CLIP, also where its
            model cannot be built here, or where it is known to need QuickGELU and ``model`` has GELU, or the reverse.
    """
    state_dict = read_state_dict(path)
    remedy = 'Use the config the checkpoint was trained with.'
    for prefixes, convert in _FOREIGN:
        if any(name.startswith(prefixes) for name in state_dict):
            remedy = 'Use the config in configs/foreign for these weights.'
            _check_activation(model, state_dict, path, remedy)
            try:
                state_dict = convert(state_dict)
            except KeyError as error:
                raise ValueError(f'{os.fspath(path)!r} cannot be loaded: {error.args[0]}.') from error
            break
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
            f'{os.fspath(path)!r} does not fit {type(model).__name__} as configured. {"; ".join(problems)}. {remedy}'
        )


# Names that begin so are theirs; none of ours does.
_FOREIGN = (
    (('visual.', 'transformer.resblocks.', 'text.transformer.resblocks.'), convert_open_clip),
    (('vision_model.', 'text_model.'), convert_hf_clip),
)


def _check_activation(model: nn.Module, state_dict: dict[str, Tensor], path: str | os.PathLike, remedy: str) -> None:
    """Compare the activation where the file, or Hugging Face's config beside it, tells it: shapes do not show it."""
    beside = Path(path).with_name('config.json')
    if 'input_resolution' in state_dict:  # A buffer that only OpenAI's own models have.
        wanted = 'quick_gelu'
    elif beside.is_file() and any(name.startswith('vision_model.') for name in state_dict):
        # Hugging Face writes down only what differs from its defaults, of which quick_gelu is one.
        settings = json.loads(beside.read_text(encoding='utf-8')).get('vision_config', {})
        wanted = settings.get('hidden_act', 'quick_gelu')
    else:
        return
    found = 'quick_gelu' if any(type(part).__name__ == 'QuickGELU' for part in model.modules()) else 'gelu'
    if found != wanted:
        raise ValueError(f'{os.fspath(path)!r} is of a model with {wanted}, but the config builds {found}. {remedy}')
