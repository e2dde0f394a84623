"""Weights of other libraries under our names, compared with what the configs beside the file say of them."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor, nn

from mmmaskclip.checkpoints.adapters import has_adapters, merge_adapters
from mmmaskclip.checkpoints.dino_text import with_backbone
from mmmaskclip.checkpoints.formats.dino_text import convert_dino_text, is_dino_text
from mmmaskclip.checkpoints.formats.huggingface import convert_hf_clip, is_siglip
from mmmaskclip.checkpoints.formats.open_clip import convert_open_clip
from mmmaskclip.checkpoints.formats.timm_trunk import is_trunk
from mmmaskclip.checkpoints.formats.tips import convert_tips, is_tips
from mmmaskclip.checkpoints.odd_files import refuse_quantized
from mmmaskclip.checkpoints.positions import stretch_to_model
from mmmaskclip.checkpoints.safe_load import read_json

# How names of the other formats begin; none of ours does.
_FORMATS = (
    # Before transformers', whose text towers begin alike.
    ('dino_text', ('visual_model.', 'text_model.backbone.'), convert_dino_text),
    ('open_clip', ('visual.', 'transformer.resblocks.', 'text.transformer.resblocks.'), convert_open_clip),
    ('transformers', ('vision_model.', 'text_model.'), convert_hf_clip),
    ('tips', ('vision_encoder.', 'text_encoder.transformer.'), convert_tips),
)
_OUTER = 'model.'
_REMEDY = 'See configs/pretrained for the settings of these weights.'


def format_of(state_dict: dict[str, Tensor]) -> str | None:
    """Whose CLIP has such names: ``'open_clip'`` (OpenAI's too), ``'transformers'``, ``'tips'`` or ``'dino_text'``.

    None: ours."""
    for name, prefixes, _ in _FORMATS:
        if any(key.startswith(prefixes) for key in state_dict):
            return name
    return None


def without_outer_prefix(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without ``model.``, where a module that held the whole model put it before every name."""
    if state_dict and all(name.startswith(_OUTER) for name in state_dict):
        return {name.removeprefix(_OUTER): value for name, value in state_dict.items()}
    return state_dict


def convert_weights(state_dict: dict[str, Tensor], path: str | os.PathLike) -> dict[str, Tensor]:
    """Weights of another CLIP by the names of ``ImageTextPretrainer``; ``state_dict`` itself where they are ours.

    Args:
        state_dict: Tensors by name.
        path: Where they were read, for messages.

    Raises:
        ValueError: If they are of a CLIP that cannot be built here.
    """
    for name, _, convert in _FORMATS:
        if name == format_of(state_dict):
            if is_dino_text(state_dict):
                state_dict = with_backbone(state_dict, path)
            try:
                return convert(state_dict)
            except KeyError as error:
                raise ValueError(f'{os.fspath(path)!r} cannot be loaded: {error.args[0]}.') from error
    return state_dict


def translate_weights(model: nn.Module, state_dict: dict[str, Tensor], path: str | os.PathLike) -> dict[str, Tensor]:
    """Weights for a model, by our names, whatever the format they come in.

    Args:
        model: What they are for: its activation, mean and std are compared with what the file, or a config beside it,
            says.
        state_dict: What :func:`~mmmaskclip.checkpoints.safe_load.read_state_dict` gave.
        path: Where it was read, for the configs beside it and for messages.

    Returns:
        The translation, or ``state_dict`` itself where it is not of another CLIP; adapters (LoRA) are merged where the
        model has none, and text positions stretched where it asks for it.

    Raises:
        ValueError: If it is quantized, of a CLIP that cannot be built here, or activation, mean or std differ.
    """
    refuse_quantized(state_dict, path)
    if not any(name.startswith(_OUTER) for name, _ in model.named_parameters()):
        state_dict = without_outer_prefix(state_dict)
    if has_adapters(state_dict) and not has_adapters(name for name, _ in model.named_parameters()):
        state_dict = merge_adapters(state_dict)
    if format_of(state_dict) is not None:
        _check_activation(model, state_dict, path)
        _check_normalization(model, state_dict, path)
    return stretch_to_model(model, convert_weights(state_dict, path))


def activation_of(state_dict: dict[str, Tensor], path: str | os.PathLike) -> str | None:
    """The activation of another CLIP, ``'quick_gelu'`` or ``'gelu'``; None where nothing tells it: shapes do not."""
    if 'input_resolution' in state_dict:  # A buffer that only OpenAI's own models have.
        return 'quick_gelu'
    if any(of(state_dict) for of in (is_trunk, is_siglip, is_tips, is_dino_text)):
        return None  # Their models say it by name.
    if format_of(state_dict) == 'transformers':
        settings = read_beside(path, 'config.json')
        if settings is None:
            return None
        # Hugging Face writes down only what differs from its defaults, of which quick_gelu is one.
        return (settings.get('vision_config') or {}).get('hidden_act', 'quick_gelu')
    settings = read_beside(path, 'open_clip_config.json')
    if settings is None:
        return None
    return 'quick_gelu' if (settings.get('model_cfg') or {}).get('quick_gelu', False) else 'gelu'


def read_beside(path: str | os.PathLike, name: str) -> dict | None:
    """The JSON object in the file ``name`` of a checkpoint's folder; None if there is no such file."""
    file = Path(path).with_name(name)
    return read_json(file) if file.is_file() else None


def _check_activation(model: nn.Module, state_dict: dict[str, Tensor], path: str | os.PathLike) -> None:
    needed = activation_of(state_dict, path)
    built = 'quick_gelu' if any(type(part).__name__ == 'QuickGELU' for part in model.modules()) else 'gelu'
    if needed not in (None, built):
        raise ValueError(f'{os.fspath(path)!r} is of a model with {needed}, but the config builds {built}. {_REMEDY}')


def _check_normalization(model: nn.Module, state_dict: dict[str, Tensor], path: str | os.PathLike) -> None:
    """Compare mean and std of the images with those that the config beside the file gives."""
    if format_of(state_dict) == 'transformers':
        source, prefix = 'preprocessor_config.json', 'image_'
        settings = read_beside(path, source) or {}
    else:
        source, prefix = 'open_clip_config.json', ''
        settings = (read_beside(path, source) or {}).get('preprocess_cfg') or {}
    buffers = dict(model.named_buffers())
    for kind in ('mean', 'std'):
        # Without normalization the preprocessor has no such buffer.
        theirs, ours = settings.get(prefix + kind), buffers.get(f'data_preprocessor.{kind}')
        if theirs is None or ours is None:
            continue
        # Theirs are of pixels from 0 to 1, ours from 0 to 255; a tenth of a grey level is rounding.
        expected, built = [255 * value for value in theirs], ours.flatten().tolist()
        if len(expected) != len(built) or any(abs(a - b) > 0.1 for a, b in zip(expected, built, strict=True)):
            values = [', '.join(f'{value:.2f}' for value in numbers) for numbers in (expected, built)]
            raise ValueError(
                f'{os.fspath(path)!r} is of a model with {kind} [{values[0]}] ({source} beside it, times 255), but the '
                f"config's data_preprocessor has [{values[1]}]. {_REMEDY}"
            )
