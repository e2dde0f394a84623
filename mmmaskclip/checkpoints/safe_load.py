"""The one reader of checkpoint files. It runs no code from a file, whatever the format of the file is.

A pickle names classes and functions that the reader must call. This reader knows one list of them, :data:`ALLOWED`,
which holds tensors, numbers and containers. A few classes that checkpoints name without need become :class:`StandIn`,
which keeps their state and does nothing. A file that names anything else is refused.
"""

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
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmmaskclip.checkpoints.formats.torchscript import is_torchscript, read_torchscript
from mmmaskclip.checkpoints.stand_in import StandIn

# Errors of torch's reader on a damaged file: it executes the allowed instructions of the file, damaged or not.
DAMAGE = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, TypeError, ValueError, AttributeError,
    zipfile.BadZipFile,
)  # fmt: skip
# Key of a dict that stands for a HistoryBuffer in a checkpoint of ours.
HISTORY = 'history_buffer'
# torch has no list of NumPy's dtypes, and NumPy gives every dtype a class.
NUMBERS = {np.dtype(code) for code in np.typecodes['AllInteger'] + np.typecodes['AllFloat'] + '?'}
ALLOWED: list[Any] = [
    # mmengine's own list allows the real getattr, through which a crafted file reaches any function. mmengine's log
    # history names getattr only because it pickles its bound methods.
    (StandIn, 'builtins.getattr'),
    (StandIn, 'mmengine.logging.history_buffer.HistoryBuffer'),
    *((np.empty(0).__reduce__()[0], f'numpy.{core}.multiarray._reconstruct') for core in ('core', '_core')),
    *((np.float64(0).__reduce__()[0], f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
    np.ndarray,
    np.dtype,
    *{type(number) for number in NUMBERS},
]
# Packages whose modules some files pickle whole: OpenAI's DALL-E and torch. The reader takes only their tensors.
_MODULES = ('dall_e.', 'torch.nn.modules.')
# Endings of the files to list when the path is a folder.
_ENDINGS = ('.pth', '.pt', '.bin', '.ckpt', '.safetensors', '.index.json')
# Prefixes that wrappers add to names: DataParallel and DDP at the start, torch.compile before every compiled part.
_WRAPPER = re.compile(r'^module\.|(?:^|(?<=\.))_orig_mod\.')


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint of any format onto the CPU; nothing in the file is executed.

    Args:
        path: A file of torch (of mmengine's Runner, say), a ``.safetensors`` file, a TorchScript archive, or the index
            (``.index.json``) of a checkpoint in several files beside it.

    Returns:
        What the file holds; where that is no dict of torch, ``{'state_dict': tensors, 'meta': {}}``. The log history of
        a Runner's message hub comes as ``HistoryBuffer``.

    Raises:
        FileNotFoundError: If there is no such file, or one that the index names is not there.
        IsADirectoryError: If it is a folder; the message lists the checkpoints in it.
        ValueError: If the file is damaged, no checkpoint, one part of several, or names anything but tensors, numbers,
            text and containers.
    """
    _check_is_file(path)
    if os.fspath(path).endswith('.index.json'):
        return {'state_dict': _read_parts(Path(path)), 'meta': {}}
    content = _read_file(path)
    if isinstance(content, StandIn):
        content = {'state_dict': content.tensors(), 'meta': {}}
    if not isinstance(content, dict):
        raise ValueError(f'{os.fspath(path)!r} holds {type(content).__name__}, not a checkpoint.')
    hub = content.get('message_hub')
    if isinstance(hub, dict) and isinstance(hub.get('log_scalars'), dict):
        hub['log_scalars'] = {name: _history(value) for name, value in hub['log_scalars'].items()}
    return content


def read_state_dict(path: str | os.PathLike) -> dict[str, Tensor]:
    """Parameters and buffers of a checkpoint, on the CPU; nothing in the file is executed.

    Args:
        path: See :func:`read_checkpoint`, whose errors also apply.

    Returns:
        Tensors by name, see :func:`state_dict_of`.
    """
    return state_dict_of(read_checkpoint(path), path)


def state_dict_of(checkpoint: Mapping[str, Any], path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a checkpoint.

    Args:
        checkpoint: What :func:`read_checkpoint` gave.
        path: Where it was read, for messages.

    Returns:
        Tensors by name, those under ``state_dict`` or ``model`` where there is such a part, without the ``module.`` and
        ``_orig_mod.`` that DDP and ``torch.compile`` put into names.

    Raises:
        ValueError: If there are none, or other things among them.
    """
    state_dict: Any = checkpoint
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), Mapping):
            state_dict = checkpoint[key]
            break
    if not state_dict or not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise ValueError(f'{os.fspath(path)!r} holds no state dict of tensors.')
    return {_bare(name): value for name, value in state_dict.items()}


def _bare(name: str) -> str:
    """A name without the prefixes of wrappers, which may stand one behind another."""
    while (shorter := _WRAPPER.sub('', name)) != name:
        name = shorter
    return name


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ValueError: If the file is damaged or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{str(path)!r} is damaged or no JSON file ({error}).') from error
    if not isinstance(content, dict):
        raise ValueError(f'{str(path)!r} holds no JSON object.')
    return content


def _check_is_file(path: str | os.PathLike) -> None:
    if os.path.isdir(path):
        files = sorted(file.name for file in Path(path).iterdir() if file.name.endswith(_ENDINGS))
        raise IsADirectoryError(
            f'{os.fspath(path)!r} is a folder'
            f'{": give the file in it, " + " or ".join(files) if files else " without any checkpoint"}.'
        )
    if not os.path.isfile(path):
        raise FileNotFoundError(f'There is no checkpoint {os.fspath(path)!r}.')
    if (part := re.search(r'-\d{5}-of-(\d{5})\.\w+$', os.fspath(path))) and int(part[1]) > 1:
        raise ValueError(
            f'{os.fspath(path)!r} is one of {int(part[1])} parts: give the index file beside them, '
            f'{os.fspath(path)[: part.start()]}{Path(path).suffix}.index.json.'
        )


def _read_parts(index: Path) -> dict[str, Tensor]:
    """The tensors of all files that Hugging Face's index of a large checkpoint names."""
    parts = read_json(index).get('weight_map')
    if not isinstance(parts, dict) or not parts:
        raise ValueError(f'{str(index)!r} has no weight_map, which would say where the weights are.')
    # Names only: an index from elsewhere does not choose folders.
    files = [index.with_name(Path(name).name) for name in sorted(set(parts.values()))]
    if absent := [file.name for file in files if not file.is_file()]:
        raise FileNotFoundError(f'{str(index)!r} names {", ".join(absent)}, not found beside it; get all {len(files)}.')
    return {name: value for file in files for name, value in state_dict_of(_read_file(file), file).items()}


def _read_file(path: str | os.PathLike) -> Any:
    try:
        if os.fspath(path).endswith('.safetensors'):
            return _read_safetensors(path)
        if is_torchscript(path):
            return {'state_dict': read_torchscript(path), 'meta': {}}
        return _read_pickle(path)
    except (*DAMAGE, SafetensorError) as error:
        refused = re.search(r'GLOBAL (\S+)', str(error))
        reason = (
            f'refers to {refused[1]}, which could run code, so it is not loaded; save it again with only tensors'
            if refused
            else f'is damaged or no checkpoint ({_first_line(error)}); take an earlier one, or get it again'
        )
        raise ValueError(f'{os.fspath(path)!r} {reason}.') from error


def _read_safetensors(path: str | os.PathLike) -> dict[str, Any]:
    with safe_open(path, 'pt') as file:
        meta = file.metadata() or {}
        # The config that tools/model_converters/publish_model.py writes; the rest is of other programs.
        config = {'cfg': meta['cfg']} if 'cfg' in meta else {}
        return {'state_dict': {name: file.get_tensor(name) for name in file.keys()}, 'meta': config}  # noqa: SIM118


def _read_pickle(path: str | os.PathLike) -> Any:
    with torch.serialization.safe_globals(ALLOWED):
        try:
            return torch.load(path, map_location='cpu', weights_only=True)
        except pickle.UnpicklingError:
            if not zipfile.is_zipfile(path):
                raise
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            modules: list[Any] = [(StandIn, name) for name in names if name.startswith(_MODULES)]
            if not modules:
                raise
    with torch.serialization.safe_globals([*ALLOWED, *modules]):
        return torch.load(path, map_location='cpu', weights_only=True)


def _first_line(error: Exception) -> str:
    # torch's first line of an UnpicklingError advises to load the file with weights_only=False: nobody shall follow it.
    hidden = isinstance(error, pickle.UnpicklingError) or not str(error)
    return type(error).__name__ if hidden else str(error).splitlines()[0]


def _history(value: Any) -> Any:
    if isinstance(value, StandIn) and isinstance(value.state, dict) and '_log_history' in value.state:
        value = {HISTORY: [value.state['_log_history'], value.state['_count_history'], value.state['max_length']]}
    if isinstance(value, dict) and HISTORY in value:
        return HistoryBuffer(*value[HISTORY])
    return value
