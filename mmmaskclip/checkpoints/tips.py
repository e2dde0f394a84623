"""The config of TIPSv2, from the shapes of its weights and its ``config.json``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmmaskclip.checkpoints.formats.tips import LENGTH
from mmmaskclip.checkpoints.text_facts import find_tokenizer
from mmmaskclip.checkpoints.translate import read_beside

_TRUNK = 'image_encoder.trunk.'


def tips_config(state_dict: Mapping[str, Tensor], path: str | os.PathLike, tokenizer: str | None) -> dict[str, Any]:
    """The config of ``ImageTextPretrainer`` for TIPS's weights by our names.

    Args:
        state_dict: What :func:`~mmmaskclip.checkpoints.formats.tips.convert_tips` gave.
        path: The file of weights; ``config.json`` beside it says how many heads there are.
        tokenizer: Path of ``tokenizer.json`` or SentencePiece's ``.model``, where neither lies beside the weights.
    """
    config = read_beside(path, 'config.json') or {}
    width = state_dict[f'{_TRUNK}pos_embed'].shape[2]
    text_width, text_hidden = (
        state_dict[name].shape[size]
        for name, size in (
            ('text_encoder.token_embedding.weight', 1),
            ('text_encoder.layers.0.ffn.layers.0.0.weight', 0),
        )
    )
    heads, text_heads = (
        (config.get(tower) or {}).get('num_attention_heads') or (16 if channels == 1152 else channels // 64)
        for tower, channels in (('vision_config', width), ('text_config', text_width))
    )
    return dict(
        type='ImageTextPretrainer',
        # No normalization: pixels from 0 to 1.
        data_preprocessor=dict(
            type='ImageTextPreprocessor',
            mean=[0.0] * 3,
            std=[255.0] * 3,
            interpolation='bilinear',
            resize_mode='squash',
        ),
        image_encoder=_trunk(state_dict, width, heads),
        image_projection=dict(type='ImageProjectionHead', pool='cls', in_channels=width, embed_dims=None),
        text_encoder=dict(
            type='CLIPTextTransformer',
            width=text_width,
            num_layers=_blocks(state_dict, 'text_encoder.layers.', '.ln1.weight'),
            num_heads=text_heads,
            vocab_size=state_dict['text_encoder.token_embedding.weight'].shape[0],
            context_length=LENGTH,
            hidden=text_hidden,
            activation='relu',
            causal=False,
            pool='mean',
            tokenizer=dict(file=tokenizer or find_tokenizer(path), pad_id=0, clean='lower'),
        ),
        text_projection=dict(type='TextProjectionHead', in_channels=text_width, embed_dims=None),
        objectives=dict(contrast=dict(type='ImageTextContrast')),
    )


def _trunk(state_dict: Mapping[str, Tensor], width: int, heads: int) -> dict[str, Any]:
    patch = state_dict[f'{_TRUNK}patch_embed.proj.weight'].shape[-1]
    first, second = (state_dict[f'{_TRUNK}blocks.0.mlp.{layer}.weight'].shape for layer in ('fc1', 'fc2'))
    # SwiGLU's first layer makes gate and value.
    gated = first[0] != second[1]
    return dict(
        type='TimmTower',
        model_name='vit_giant_patch14_reg4_dinov2' if gated else 'vit_base_patch14_reg4_dinov2',
        img_size=math.isqrt(state_dict[f'{_TRUNK}pos_embed'].shape[1]) * patch,
        patch_size=patch,
        embed_dim=width,
        depth=_blocks(state_dict, f'{_TRUNK}blocks.', '.norm1.weight'),
        num_heads=heads,
        # timm rounds the product down.
        mlp_ratio=(first[0] + 0.5) / width,
        reg_tokens=state_dict[f'{_TRUNK}reg_token'].shape[1],
        position_interpolation='bilinear',
    )


def _blocks(state_dict: Mapping[str, Tensor], prefix: str, suffix: str) -> int:
    return sum(name.startswith(prefix) and name.endswith(suffix) for name in state_dict)
