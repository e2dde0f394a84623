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
from urllib.parse import urlparse

import numpy as np
import torch
from torch import Tensor, nn

from mmmaskclip.checkpoints.formats.huggingface import convert_hf_clip
from mmmaskclip.checkpoints.formats.open_clip import convert_open_clip
from mmmaskclip.checkpoints.formats.torchscript import is_torchscript, read_torchscript

# What torch's reader raises on a damaged file; it follows the file's instructions, whatever they have become.
DAMAGE = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, TypeError, ValueError, AttributeError,
    zipfile.BadZipFile,
)  # fmt: skip


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


def download(url: str) -> str:
    """Download a file into torch's folder of downloads, unless it is there.

    Args:
        url: Address, ``https://`` or ``http://``.

    Returns:
        Path of the file.

    Raises:
        OSError: If it cannot be reached or written.
        RuntimeError: If its name ends with another SHA-256, as mmengine and torch write it: ``NAME-89abcdef.pth``.
    """
    name = os.path.basename(urlparse(url).path)
    path = os.path.join(torch.hub.get_dir(), 'checkpoints', name)
    if not os.path.isfile(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        digest = re.search(r'-([0-9a-f]{8,})\.', name)
        torch.hub.download_url_to_file(url, path, digest and digest[1], progress=False)
    return path


def read_state_dict(path: str | os.PathLike) -> dict[str, Tensor]:
    """Parameters and buffers of a checkpoint, on the CPU; nothing in the file is executed.

    Args:
        path: A checkpoint of mmengine's Runner (its ``state_dict`` is taken), a file with only a state dict, a
            ``.safetensors`` file, a TorchScript archive, or the index (``.index.json``) of a checkpoint in several
            files beside it.

    Returns:
        Tensors by name, without a leading ``module.``.

    Raises:
        FileNotFoundError: If there is no such file, or one that the index names is not there.
        ImportError: If it is a ``.safetensors`` file and that package is missing.
        IsADirectoryError: If it is a folder; the message lists the checkpoints in it.
        ValueError: If the file is damaged, holds objects that are not allowed, no state dict, or one part of several.
    """
    if os.path.isdir(path):
        found = sorted(file.name for file in Path(path).iterdir() if file.name.endswith(_ENDINGS))
        raise IsADirectoryError(
            f'{os.fspath(path)!r} is a folder'
            f'{": give the file in it, " + " or ".join(found) if found else " without any checkpoint"}.'
        )
    if not os.path.isfile(path):
        raise FileNotFoundError(f'There is no checkpoint {os.fspath(path)!r}.')
    if os.fspath(path).endswith('.index.json'):
        return _read_parts(Path(path))
    if (part := re.search(r'-\d{5}-of-(\d{5})\.\w+$', os.fspath(path))) and int(part[1]) > 1:
        raise ValueError(
            f'{os.fspath(path)!r} is one of {int(part[1])} parts: give the index file beside them, '
            f'{os.fspath(path)[: part.start()]}{Path(path).suffix}.index.json.'
        )
    return _read_file(path)


# Of files in a folder that may be meant.
_ENDINGS = ('.pth', '.pt', '.bin', '.ckpt', '.safetensors', '.index.json')


def _read_parts(index: Path) -> dict[str, Tensor]:
    """The tensors of all files that Hugging Face's index of a large checkpoint names."""
    parts = _read_json(index).get('weight_map')
    if not isinstance(parts, dict) or not parts:
        raise ValueError(f'{str(index)!r} has no weight_map, which would say where the weights are.')
    # Names only: an index from elsewhere does not choose folders.
    files = [index.with_name(Path(name).name) for name in sorted(set(parts.values()))]
    if absent := [file.name for file in files if not file.is_file()]:
        raise FileNotFoundError(f'{str(index)!r} names {", ".join(absent)}, not found beside it; get all {len(files)}.')
    return {name: value for file in files for name, value in _read_file(file).items()}


def _read_file(path: str | os.PathLike) -> dict[str, Tensor]:
    try:
        checkpoint = _read(path)
    except DAMAGE as error:
        foreign = re.search(r'GLOBAL (\S+)', str(error))
        reason = (
            f'refers to {foreign[1]}, which could run code, so it is not loaded; save it again with only tensors'
            if foreign
            else f'is damaged or no checkpoint ({_first_line(error)})'
        )
        raise ValueError(f'{os.fspath(path)!r} {reason}.') from error
    state_dict = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, Mapping) else None
    if not state_dict or not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise ValueError(f'{os.fspath(path)!r} holds no state dict of tensors.')
    return {re.sub(r'^module\.', '', name): value for name, value in state_dict.items()}


def _first_line(error: Exception) -> str:
    # Of these torch says first of all how to load the file without protection.
    hidden = isinstance(error, pickle.UnpicklingError) or not str(error)
    return type(error).__name__ if hidden else str(error).splitlines()[0]


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


def translate_weights(model: nn.Module, state_dict: dict[str, Tensor], path: str | os.PathLike) -> dict[str, Tensor]:
    """Weights of another CLIP by our names.

    Args:
        model: What they are for: its activation, mean and std are compared with what the file, or a config beside it,
            tells.
        state_dict: What :func:`read_state_dict` gave.
        path: Where it was read, for the configs beside it and for messages.

    Returns:
        The translation, or ``state_dict`` itself where it is not of another CLIP.

    Raises:
        ValueError: If it is of a CLIP that cannot be built here, or activation, mean or std differ.
    """
    for prefixes, convert in _FOREIGN:
        if any(name.startswith(prefixes) for name in state_dict):
            remedy = 'See configs/pretrained for the settings of these weights.'
            _check_activation(model, state_dict, path, remedy)
            _check_normalization(model, state_dict, path, remedy)
            try:
                return convert(state_dict)
            except KeyError as error:
                raise ValueError(f'{os.fspath(path)!r} cannot be loaded: {error.args[0]}.') from error
    return state_dict


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Load all weights of ``model`` from a checkpoint; nothing may be missing, left over or of another shape.

    Checkpoints of other CLIPs are told by their names and translated: OpenAI's archives, OpenCLIP's files and Hugging
    Face's ``pytorch_model.bin`` or ``model.safetensors``. Their models are in ``configs/pretrained``.

    Args:
        model: The model, not wrapped.
        path: See :func:`read_state_dict`, whose errors also apply.

    Raises:
        ValueError: If names or shapes differ; the message lists them. Positions of another image size are such: they
            are not resized. If the file is of another CLIP, also where its model cannot be built here, or where the
            file, or a config beside it, tells another activation (QuickGELU or GELU), mean or std than ``model`` has.
    """
    read = read_state_dict(path)
    state_dict = translate_weights(model, read, path)
    remedy = (
        'Use the config the checkpoint was trained with.'
        if state_dict is read
        else 'Use the config in configs/pretrained for these weights.'
    )
    own = model.state_dict()
    differing = [_difference(model, name, own[name], state_dict[name]) for name in own if name in state_dict]
    if shapes := [difference for difference in differing if difference]:
        # Not loaded: mmpretrain's towers would resize their positions without an error.
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
    else:
        missing, unexpected = model.load_state_dict(state_dict, strict=False)
    problems = [
        f'{len(names)} {what}: {", ".join(names[:5])}{", ..." if len(names) > 5 else ""}'
        for what, names in (('missing', missing), ('not in the model', unexpected), ('of another shape', shapes))
        if names
    ]
    if problems:
        raise ValueError(
            f'{os.fspath(path)!r} does not fit {type(model).__name__} as configured. {"; ".join(problems)}. {remedy}'
        )


def _difference(model: nn.Module, name: str, own: Tensor, given: Tensor) -> str:
    """How the shape of a tensor in a file differs from the model's; empty if it does not."""
    if own.shape == given.shape or (own.ndim == 0 and given.shape == (1,)):  # The second one torch takes, too.
        return ''
    size = getattr(model.get_submodule(name.rpartition('.')[0]), 'img_size', None)
    if not name.endswith('pos_embed') or size is None or own.ndim != 3 or own.shape[::2] != given.shape[::2]:
        return f'size mismatch for {name}: {tuple(given.shape)} in the file, {tuple(own.shape)} in the model'
    return f'{name} has {given.shape[1]} positions, but img_size={tuple(size)} needs {own.shape[1]}'


# Names that begin so are theirs; none of ours does.
_FOREIGN = (
    (('visual.', 'transformer.resblocks.', 'text.transformer.resblocks.'), convert_open_clip),
    (('vision_model.', 'text_model.'), convert_hf_clip),
)


def _check_activation(model: nn.Module, state_dict: dict[str, Tensor], path: str | os.PathLike, remedy: str) -> None:
    """Compare the activation where the file, or the config beside it, tells it: shapes do not show it."""
    if 'input_resolution' in state_dict:  # A buffer that only OpenAI's own models have.
        wanted = 'quick_gelu'
    elif any(name.startswith('vision_model.') for name in state_dict):
        settings = _read_beside(path, 'config.json')
        if settings is None:
            return
        # Hugging Face writes down only what differs from its defaults, of which quick_gelu is one.
        wanted = (settings.get('vision_config') or {}).get('hidden_act', 'quick_gelu')
    else:
        settings = _read_beside(path, 'open_clip_config.json')
        if settings is None:
            return
        wanted = 'quick_gelu' if (settings.get('model_cfg') or {}).get('quick_gelu', False) else 'gelu'
    found = 'quick_gelu' if any(type(part).__name__ == 'QuickGELU' for part in model.modules()) else 'gelu'
    if found != wanted:
        raise ValueError(f'{os.fspath(path)!r} is of a model with {wanted}, but the config builds {found}. {remedy}')


def _check_normalization(model: nn.Module, state_dict: dict[str, Tensor], path: str | os.PathLike, remedy: str) -> None:
    """Compare mean and std of the images with those that the config beside the file tells."""
    if any(name.startswith('vision_model.') for name in state_dict):
        source, prefix = 'preprocessor_config.json', 'image_'
        settings = _read_beside(path, source) or {}
    else:
        source, prefix = 'open_clip_config.json', ''
        settings = (_read_beside(path, source) or {}).get('preprocess_cfg') or {}
    for kind in ('mean', 'std'):
        wanted, own = settings.get(prefix + kind), getattr(getattr(model, 'data_preprocessor', None), kind, None)
        if wanted is None or not isinstance(own, Tensor):
            continue
        # Theirs are of pixels from 0 to 1, ours from 0 to 255; a tenth of a grey level is rounding.
        expected, found = [255 * value for value in wanted], own.flatten().tolist()
        if len(expected) != len(found) or any(abs(a - b) > 0.1 for a, b in zip(expected, found, strict=True)):
            values = [', '.join(f'{value:.2f}' for value in numbers) for numbers in (expected, found)]
            raise ValueError(
                f'{os.fspath(path)!r} is of a model with {kind} [{values[0]}] ({source} beside it, times 255), but the '
                f"config's data_preprocessor has [{values[1]}]. {remedy}"
            )


def _read_beside(path: str | os.PathLike, name: str) -> dict | None:
    file = Path(path).with_name(name)
    return _read_json(file) if file.is_file() else None


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{str(path)!r} is damaged or no JSON file ({error}).') from error
    if not isinstance(content, dict):
        raise ValueError(f'{str(path)!r} holds no JSON object.')
    return content
