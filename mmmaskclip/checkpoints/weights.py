"""Loads weights into a model: all of them, those of some parts, or as many as fit. One log line reports the result.

All loading passes through this file or ``image_tower.py``: ``load_from``, ``init_cfg``, the frozen teacher,
``tools/test.py``, the inferencer, the text classifier and mmengine's ``Pretrained`` initializer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmmaskclip.checkpoints.adapters import has_adapters, is_adapter
from mmmaskclip.checkpoints.downloads import local_path
from mmmaskclip.checkpoints.image_tower import CORE, fit_positions, some, square_grid
from mmmaskclip.checkpoints.safe_load import read_state_dict
from mmmaskclip.checkpoints.translate import format_of, translate_weights

# Parts of a model that must not stay random because the file lacks some of their weights.
_TOWERS = ('image_encoder', 'text_encoder', 'backbone')


def load_weights(model: nn.Module, path: str | os.PathLike, parts: Sequence[str] = ()) -> None:
    """Load all weights of ``model`` from a checkpoint; missing, surplus or misshapen weights are an error.

    Checkpoints of other CLIPs are recognized by their names and translated: OpenAI's archives, OpenCLIP's files and
    Hugging Face's ``pytorch_model.bin`` or ``model.safetensors``. Their models are in ``configs/pretrained``.

    Args:
        model: The model, not wrapped.
        path: File, address or name, see :func:`~mmmaskclip.checkpoints.downloads.local_path` and
            :func:`~mmmaskclip.checkpoints.safe_load.read_checkpoint`, whose errors also apply.
        parts: Prefixes of the names to take from the file, for a model that is part of what was trained. Defaults to
            all names.

    Raises:
        ValueError: If names or shapes differ; the message lists them. Positions are not resized to another image size.
            For a file of another CLIP also if its model cannot be built here, or if the file or a config beside it
            states another activation (QuickGELU or GELU), mean or std than that of ``model``.
    """
    path = local_path(path)
    load_all(model, read_state_dict(path), path, parts)


def load_all(model: nn.Module, read: dict[str, Tensor], path: str | os.PathLike, parts: Sequence[str] = ()) -> None:
    """Load all weights of ``model``, as :func:`load_weights`, from tensors that were read from ``path`` already."""
    state_dict = translate_weights(model, read, path)
    if parts:
        state_dict = {name: value for name, value in state_dict.items() if name.startswith(tuple(parts))}
        if not state_dict:
            raise ValueError(
                f'{os.fspath(path)!r} has nothing under {" or ".join(parts)}: it has {some(_modules(read, []), 5)}. '
                'Give a checkpoint that has it, for example of an image-text pretraining.'
            )
    own = model.state_dict()
    if not has_adapters(state_dict):
        # Adapters start at zero: a model that has them computes with these weights what one without does.
        state_dict |= {name: value for name, value in own.items() if is_adapter(name)}
    differing = [_difference(model, name, own[name], state_dict[name]) for name in own if name in state_dict]
    if shapes := [difference for difference in differing if difference]:
        # Not loaded: mmpretrain's towers would resize their positions without an error.
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
    else:
        missing, unexpected = model.load_state_dict(state_dict, strict=False)
    problems = [
        f'{len(names)} {what}: {some(names, 5)}'
        for what, names in (('missing', missing), ('not in the model', unexpected), ('of another shape', shapes))
        if names
    ]
    if problems:
        remedy = (
            'Use the config in configs/pretrained for these weights.'
            if format_of(read)
            else 'Use the config the checkpoint was trained with.'
        )
        raise ValueError(
            f'{os.fspath(path)!r} does not fit {type(model).__name__} as configured. {"; ".join(problems)}. {remedy}'
        )
    if not parts:
        total = f'{len(state_dict)} of {len(state_dict)} tensors loaded from {os.fspath(path)!r}.'
        print_log(total, logger='current', level=logging.INFO)


def load_what_fits(model: nn.Module, read: dict[str, Tensor], path: str | os.PathLike, prefix: str = '') -> str:
    """Load the weights that fit from a checkpoint with missing or surplus parts, and log one line about them.

    Args:
        model: The model, not wrapped; changed in place.
        read: What :func:`~mmmaskclip.checkpoints.safe_load.read_state_dict` gave; of another CLIP it is translated.
        path: Where it was read.
        prefix: The function loads only names with this prefix, and removes it. Defaults to ``''``.

    Returns:
        The line.

    Raises:
        ValueError: If nothing loads; if nothing, or not all blocks, of an image tower, text tower or backbone load; or
            if a tensor of one of these has another shape.
    """
    state_dict = translate_weights(model, read, path)
    prefix = f'{prefix.removesuffix(".")}.' if prefix else ''
    state_dict = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    if format_of(read) == 'open_clip':
        _fit_positions(model, state_dict)
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    kept = [name for name in state_dict if name in own]
    if not kept:
        names = [f'{prefix}{name}' for name in state_dict] or list(read)
        raise ValueError(
            f'Nothing in {os.fspath(path)!r} is of {type(model).__name__}: {f"under {prefix!r} " if prefix else ""}the '
            f'file has {some(names, 3)}, where the model has {some(list(own), 3)}. Training would start from random '
            'weights. Give a checkpoint of this model, or load a tower alone with its '
            "init_cfg=dict(type='Pretrained', checkpoint=..., prefix=...)."
        )
    differing = {name: text for name in kept if (text := _shapes(model, name, own[name], state_dict[name]))}
    _check_towers(model, state_dict, differing, path)
    total = len(state_dict)
    state_dict = {name: value for name, value in state_dict.items() if name not in differing}
    missing, surplus = model.load_state_dict(state_dict, strict=False)
    unused = _modules(surplus, state_dict)
    line = _line(total, len(state_dict) - len(surplus), path, own, missing, unused, list(differing.values()))
    print_log(line, logger='current', level=logging.WARNING if differing else logging.INFO)
    return line


def _line(
    total: int, loaded: int, path: str | os.PathLike, own: Iterable[str], missing: list, unused: list, differing: list
) -> str:
    missing = [name for name in missing if not any(text.startswith(f'{name} ') for text in differing)]
    parts = [f'{loaded} of {total} tensors loaded from {os.fspath(path)!r}']
    if missing:
        parts.append(f'missing: {", ".join(f"{name} (new)" for name in _modules(missing, own))}')
    if differing:
        parts.append(f'of another shape, so new: {some(differing, 5)}')
    if unused:
        parts.append(f'not used: {some(unused, 8)}')
    return '; '.join(parts)


def _modules(names: Iterable[str], everything: Iterable[str]) -> list[str]:
    """The outermost modules of which all names are among ``names``; of others the names themselves."""
    names, remaining = set(names), [name for name in everything if name not in set(names)]
    whole: list[str] = []
    for name in sorted(names):
        parts = name.split('.')
        prefixes = ['.'.join(parts[:end]) for end in range(1, len(parts) + 1)]
        group = next(p for p in prefixes if p == name or not any(other.startswith(f'{p}.') for other in remaining))
        if group not in whole:
            whole.append(group)
    return whole


def _check_towers(model: nn.Module, state_dict: dict[str, Tensor], differing: dict, path: str | os.PathLike) -> None:
    for tower, module in model.named_children():
        if tower not in _TOWERS:
            continue
        own = [name for name, _ in module.named_parameters() if not is_adapter(name)]
        absent = [f'{tower}.{name}' for name in own if f'{tower}.{name}' not in state_dict]
        if own and len(absent) == len(own):
            raise ValueError(
                f'{os.fspath(path)!r} has nothing of {tower}, which would stay random: it has '
                f'{some(_modules(state_dict, []), 5)}. Give a checkpoint with {tower}, or load the other parts alone, '
                "each with its own init_cfg=dict(type='Pretrained', checkpoint=..., prefix=...), without load_from."
            )
        if core := [name for name in absent if name.removeprefix(f'{tower}.').startswith(CORE)]:
            raise ValueError(
                f'{os.fspath(path)!r} has only a part of {tower}: {some(core, 3)} are missing and would stay random. '
                'Give the model the arch of the file.'
            )
        if other := [text for name, text in differing.items() if name.startswith(f'{tower}.')]:
            raise ValueError(
                f'{os.fspath(path)!r} does not fit {tower} as configured: {some(other, 3)}. Give it the arch, patch '
                'size and context_length of the file, or, for longer captions, stretch_positions=True.'
            )


def _fit_positions(model: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """Resize the positions of OpenCLIP's file as OpenCLIP does, before mmpretrain would, without antialiasing."""
    name = 'image_encoder.pos_embed'
    tower: Any = dict(model.named_children()).get('image_encoder')
    if name not in state_dict or tower is None or state_dict[name].shape == tower.pos_embed.shape:
        return
    if grid := square_grid(state_dict[name].shape[1] - 1):
        state_dict[name] = fit_positions(tower, state_dict[name], True, grid, antialias=True)


def _resizes(module: nn.Module, name: str, own: Tensor, given: Tensor) -> bool:
    """Whether a tensor is a table of positions that its module resizes while it loads a state dict."""
    return name.endswith('pos_embed') and hasattr(module, '_prepare_pos_embed') and own.shape[::2] == given.shape[::2]


def _shapes(model: nn.Module, name: str, own: Tensor, given: Tensor) -> str:
    """How shapes differ; empty if they do not, or are of positions that the tower resizes."""
    module = model.get_submodule(name.rpartition('.')[0])
    if _same(own, given) or _resizes(module, name, own, given):
        return ''
    return f'{name} is {tuple(given.shape)} in the file, {tuple(own.shape)} in the model'


def _same(own: Tensor, given: Tensor) -> bool:
    return own.shape == given.shape or (own.ndim == 0 and given.shape == torch.Size((1,)))  # The second torch takes.


def _difference(model: nn.Module, name: str, own: Tensor, given: Tensor) -> str:
    """How the shape of a tensor in a file differs from the model's; empty if it does not."""
    if _same(own, given):
        return ''
    size = getattr(model.get_submodule(name.rpartition('.')[0]), 'img_size', None)
    if not name.endswith('pos_embed') or size is None or own.ndim != 3 or own.shape[::2] != given.shape[::2]:
        return f'size mismatch for {name}: {tuple(given.shape)} in the file, {tuple(own.shape)} in the model'
    return f'{name} has {given.shape[1]} positions, but img_size={tuple(size)} needs {own.shape[1]}'
