"""The config of a CLIP, from the shapes of its weights and from the files beside them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mmmaskclip.checkpoints.config_text import model_config
from mmmaskclip.checkpoints.dino_text import dino_text_config
from mmmaskclip.checkpoints.formats.dino_text import is_dino_text
from mmmaskclip.checkpoints.formats.huggingface import is_naflex, is_siglip
from mmmaskclip.checkpoints.formats.timm_trunk import is_trunk
from mmmaskclip.checkpoints.formats.tips import is_tips
from mmmaskclip.checkpoints.odd_files import KNOWN, nearest_tower, refuse_parts
from mmmaskclip.checkpoints.sources import Source
from mmmaskclip.checkpoints.text_facts import CLIP_VOCABULARY, SIGLIP, check_text, text_config
from mmmaskclip.checkpoints.tips import tips_config
from mmmaskclip.checkpoints.translate import convert_weights, format_of, read_beside
from mmmaskclip.checkpoints.trunks import KNOWN_TRUNKS, TrunkSettings, contrast_config, trunk_config

# OpenAI's (clip/clip.py), which nearly all CLIPs share.
_PIXELS = dict(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))
# Settings of OpenCLIP's towers that ours has not, with the value that means "off".
_UNSUPPORTED = dict(
    ls_init_value=None, attentional_pool=False, final_ln_after_pool=False, qk_norm=False, scaled_cosine_attn=False,
    scale_heads=False, scale_attn_inner=False, scale_attn=False, scale_fc=False,
)  # fmt: skip


@dataclass
class _Facts:
    """What shapes do not show."""

    head_width: int | None = None
    text: dict[str, Any] = field(default_factory=dict)
    quick_gelu: bool | None = None
    pool: str = 'cls'
    eps: float = 1e-5
    mean: tuple[float, ...] = _PIXELS['mean']
    std: tuple[float, ...] = _PIXELS['std']
    interpolation: str = 'bicubic'
    resize_mode: str = 'shortest'


def tower_config(
    checkpoint: Mapping[str, Any], state_dict: dict[str, Tensor], source: Source, quick_gelu: bool | None = None
) -> dict[str, Any]:
    """The config of ``ImageTextPretrainer`` for a file of weights.

    Args:
        checkpoint: The whole file; one of ours holds its config.
        state_dict: Its tensors.
        source: Where it lies; ``open_clip_config.json``, ``config.json`` and ``preprocessor_config.json`` beside it are
            read.
        quick_gelu: The activation, where neither the file nor a config beside it says it. Defaults to None.

    Returns:
        The config, with mean, std, interpolation and resize mode of the images under ``data_preprocessor``.

    Raises:
        ValueError: If the file is of no CLIP that can be built here, or something is not known about it. The message
            names the nearest known tower and how it differs.
    """
    path = source.path
    refuse_parts(state_dict, path)
    if format_of(state_dict) is None:
        text = (checkpoint.get('meta') or {}).get('cfg') if isinstance(checkpoint.get('meta'), Mapping) else None
        config = model_config(text) if isinstance(text, str) else None
        if config is None:
            raise ValueError(
                f'{path!r} is of no CLIP of OpenAI, OpenCLIP or Hugging Face and holds no config of ours: it has '
                f'{", ".join(list(state_dict)[:3])}, .... Give the config that it was trained with. '
                f'{_nearest(state_dict, _Facts())}'
            )
        return config
    if is_dino_text(state_dict):
        return dino_text_config(convert_weights(state_dict, path))
    if is_tips(state_dict):
        return tips_config(convert_weights(state_dict, path), path, source.tokenizer)
    if is_trunk(state_dict) or is_siglip(state_dict):
        return _trunk_config(state_dict, source)
    hugging_face = format_of(state_dict) == 'transformers'
    facts = _hugging_face_facts(path) if hugging_face else _open_clip_facts(path, source)
    if 'input_resolution' in state_dict:  # A buffer that only OpenAI's own models have.
        facts.quick_gelu = True
    if facts.quick_gelu is None:
        facts.quick_gelu = quick_gelu
    try:
        ours = convert_weights(state_dict, path)
    except ValueError as error:
        raise ValueError(f'{error} {_nearest(state_dict, facts)}') from error
    if facts.quick_gelu is None:
        beside = 'config.json' if hugging_face else 'open_clip_config.json'
        raise ValueError(
            f'{path!r} does not say its activation, and there is no {beside} beside it: put that file there, name the '
            'config of the model (commands: --model configs/pretrained/...), or give from_pretrained quick_gelu=True '
            f'(OpenAI, DFN, MetaCLIP) or quick_gelu=False (OpenCLIP on LAION and DataComp). {_nearest(ours, facts)}'
        )
    return _config(ours, facts, source)


def _trunk_config(state_dict: dict[str, Tensor], source: Source) -> dict[str, Any]:
    """The config of a model whose image tower is timm's."""
    path, settings = source.path, TrunkSettings(tokenizer=source.tokenizer)
    if is_siglip(state_dict):
        # transformers' SigLIP has the approximate GELU in every size.
        settings.model = dict(act_layer='gelu_tanh')
        settings.text = SIGLIP | dict(act_kwargs=dict(approximate='tanh'))
        if is_naflex(state_dict):
            settings.position_interpolation = 'bilinear'
            settings.pixels = dict(interpolation='bilinear', resize_mode='patches')
        config = read_beside(path, 'config.json') or {}
        if heads := (config.get('text_config') or {}).get('num_attention_heads'):
            settings.text = {**settings.text, 'heads': heads}
    elif beside := source.open_clip_config or read_beside(path, 'open_clip_config.json'):
        model = beside.get('model_cfg') or {}
        settings.model_name = (model.get('vision_cfg') or {}).get('timm_model_name')
        settings.text = model.get('text_cfg') or {}
        pixels = beside.get('preprocess_cfg') or {}
        keys = ('mean', 'std', 'interpolation', 'resize_mode')
        settings.pixels = {key: pixels[key] for key in keys if pixels.get(key)}
    try:
        ours = convert_weights(state_dict, path)
    except ValueError as error:
        raise ValueError(f'{error} Known towers of timm are {", ".join(KNOWN_TRUNKS)}.') from error
    return trunk_config(ours, settings, path)


def _open_clip_facts(path: str, source: Source) -> _Facts:
    facts, settings = _Facts(), source.open_clip_config or read_beside(path, 'open_clip_config.json')
    if settings is None:
        return facts
    model, pixels = settings.get('model_cfg') or {}, settings.get('preprocess_cfg') or {}
    vision, text = model.get('vision_cfg') or {}, model.get('text_cfg') or {}
    if unsupported := [key for key, off in _UNSUPPORTED.items() if vision.get(key, off) != off]:
        raise ValueError(
            f'{path!r} is of a model with {", ".join(f"{key}={vision[key]!r}" for key in unsupported)} in its image '
            f'tower, which our image tower does not support. It supports {", ".join(KNOWN)}, and others of their kind.'
        )
    check_text(text, path)
    facts.quick_gelu = bool(model.get('quick_gelu', False))
    facts.head_width, facts.text = vision.get('head_width', 64), dict(text, heads=text.get('heads', 8))
    # Older configs say it with global_average_pool.
    mean = vision.get('pool_type', 'tok') == 'avg' or vision.get('global_average_pool', False)
    facts.pool = 'mean' if mean else 'cls'
    facts.eps = (vision.get('norm_kwargs') or {}).get('eps', 1e-5)
    for key in ('mean', 'std', 'interpolation', 'resize_mode'):
        if pixels.get(key):
            setattr(facts, key, pixels[key])
    return facts


def _hugging_face_facts(path: str) -> _Facts:
    facts, settings = _Facts(), read_beside(path, 'config.json')
    if settings is not None:
        # Hugging Face writes down only what differs from its defaults (CLIPVisionConfig, CLIPTextConfig).
        vision, text = settings.get('vision_config') or {}, settings.get('text_config') or {}
        facts.quick_gelu = vision.get('hidden_act', 'quick_gelu') == 'quick_gelu'
        facts.head_width = vision.get('hidden_size', 768) // vision.get('num_attention_heads', 12)
        facts.text['heads'] = text.get('num_attention_heads', 8)
        # Configs of CLIP say 2 for historical reasons, where its vocabulary has 49407.
        if text.get('vocab_size', CLIP_VOCABULARY) != CLIP_VOCABULARY:
            facts.text |= dict(pool_type='eos', eos_id=text.get('eos_token_id', 2))
        facts.eps = vision.get('layer_norm_eps', 1e-5)
    pixels = read_beside(path, 'preprocessor_config.json')
    if pixels is None:
        pixels = (read_beside(path, 'processor_config.json') or {}).get('image_processor') or {}
    facts.mean, facts.std = pixels.get('image_mean') or facts.mean, pixels.get('image_std') or facts.std
    # Numbers of PIL's filters.
    facts.interpolation = {0: 'nearest', 2: 'bilinear', 3: 'bicubic'}.get(pixels.get('resample', 3), 'bicubic')
    size = pixels.get('size')
    if isinstance(size, dict) and 'height' in size and not pixels.get('do_center_crop', True):
        facts.resize_mode = 'squash'
    return facts


def _config(state_dict: dict[str, Tensor], facts: _Facts, source: Source) -> dict[str, Any]:
    """The config for weights by our names."""
    path = source.path
    image = _shapes(state_dict)
    side = math.isqrt(image['positions'])
    if side * side != image['positions']:
        raise ValueError(f'{os.fspath(path)!r} has {image["positions"]} patch positions, which are no square grid.')
    head_width = facts.head_width or _head_width(image['width'], image['layers'])
    encoder = dict(
        type='CLIPVisionTransformer',
        arch=dict(
            embed_dims=image['width'],
            num_layers=image['layers'],
            num_heads=image['width'] // head_width,
            feedforward_channels=image['hidden'],
        ),
        patch_size=image['patch'],
        img_size=side * image['patch'],
        pre_norm='image_encoder.pre_norm.weight' in state_dict,
        patch_cfg=dict(bias='image_encoder.patch_embed.projection.bias' in state_dict),
        norm_cfg=dict(type='LN', eps=facts.eps),
        quick_gelu=facts.quick_gelu,
    )
    embed_dims = state_dict['image_projection.projection.weight'].shape[0]
    return dict(
        type='ImageTextPretrainer',
        data_preprocessor=dict(
            type='ImageTextPreprocessor',
            mean=[255 * value for value in facts.mean],
            std=[255 * value for value in facts.std],
            interpolation=facts.interpolation,
            resize_mode=facts.resize_mode,
        ),
        image_encoder=encoder,
        image_projection=dict(
            type='ImageProjectionHead', in_channels=image['width'], embed_dims=embed_dims, pool=facts.pool
        ),
        **text_config(state_dict, facts.text, facts.quick_gelu, path, source.tokenizer),
        objectives=dict(contrast=contrast_config(state_dict)),
    )


def _shapes(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    width, _, patch, _ = state_dict['image_encoder.patch_embed.projection.weight'].shape
    return dict(
        width=width,
        patch=patch,
        positions=state_dict['image_encoder.pos_embed'].shape[1] - 1,
        layers=_blocks(state_dict, 'image_encoder'),
        hidden=state_dict['image_encoder.layers.0.ffn.layers.0.0.weight'].shape[0],
    )


def _blocks(state_dict: Mapping[str, Tensor], tower: str) -> int:
    pattern = re.compile(rf'{tower}\.layers\.(\d+)\.ln1\.weight')
    return sum(1 for name in state_dict if pattern.fullmatch(name))


def _head_width(width: int, layers: int) -> int:
    known = {(entry[0], entry[1]): entry[4] for entry in KNOWN.values()}
    return known.get((width, layers), 64)


def _nearest(state_dict: Mapping[str, Tensor], facts: _Facts) -> str:
    """A sentence with the nearest known tower; empty where the file shows no tower like ours."""
    try:
        image = _shapes(state_dict)
        text = state_dict['text_encoder.token_embedding.weight'].shape[1]
    except (KeyError, ValueError):
        return f'Known towers are {", ".join(KNOWN)}, and others of their kind.'
    size = math.isqrt(image['positions']) * image['patch']
    head = facts.head_width or _head_width(image['width'], image['layers'])
    here = (image['width'], image['layers'], image['patch'], size, head, text, _blocks(state_dict, 'text_encoder'))
    return nearest_tower(here)
