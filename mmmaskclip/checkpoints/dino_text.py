"""DINOv3's text-aligned ViT (dino.txt): its two files, and its config from the shapes of its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmmaskclip.checkpoints.formats.dino_text import BACKBONE
from mmmaskclip.checkpoints.safe_load import read_state_dict

_TRUNK = 'image_encoder.trunk.'
# Side of the images in DINOv3's zero-shot notebook; positions are rotary, so that any other will do.
_SIDE = 512
# ImageNet's, which DINOv3 has.
_MEAN, _STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def with_backbone(state_dict: dict[str, Tensor], path: str | os.PathLike) -> dict[str, Tensor]:
    """The weights with those of the image backbone, which Meta releases as a file of its own.

    Args:
        state_dict: Of a whole model, or of the file of vision head and text encoder.
        path: Where it was read; ``dinov3_vit*_pretrain_*.pth`` is looked for beside it.

    Raises:
        ValueError: If the backbone is in neither, or several files could be it.
    """
    if any(name.startswith(BACKBONE) for name in state_dict):
        return state_dict
    beside = sorted(Path(path).parent.glob('dinov3_vit*_pretrain_*.pth'))
    if len(beside) != 1:
        there = f'there are {", ".join(file.name for file in beside)}' if beside else 'there is none'
        raise ValueError(
            f'{os.fspath(path)!r} holds the vision head and the text encoder of dino.txt alone. Put the file of its '
            f'image backbone, dinov3_vit*_pretrain_*.pth, into the same folder, and no other of that name: {there}.'
        )
    return state_dict | {f'{BACKBONE}{name}': value for name, value in read_state_dict(beside[0]).items()}


def dino_text_config(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config of ``ImageTextPretrainer`` for weights by our names, of ViTs with 64 channels in each head.

    Args:
        state_dict: What :func:`~mmmaskclip.checkpoints.formats.dino_text.convert_dino_text` gave.
    """
    width = state_dict[f'{_TRUNK}cls_token'].shape[2]
    words, text_width = state_dict['text_encoder.token_embedding.weight'].shape
    projected = state_dict.get('image_projection.projection.weight')
    return dict(
        type='ImageTextPretrainer',
        data_preprocessor=dict(type='ImageTextPreprocessor', mean=_MEAN, std=_STD, interpolation='bicubic'),
        image_encoder=dict(
            type='DinoTextTower',
            model_name='vit_large_patch16_dinov3_qkvb',
            num_blocks=_count(state_dict, 'image_encoder.top_blocks.', '.norm1.weight'),
            img_size=_SIDE,
            embed_dim=width,
            depth=_count(state_dict, f'{_TRUNK}blocks.', '.norm1.weight'),
            num_heads=width // 64,
        ),
        image_projection=dict(
            type='ClassAndPatchesProjectionHead',
            in_channels=width,
            embed_dims=None if projected is None else 2 * projected.shape[0],
        ),
        text_encoder=dict(
            type='CLIPTextTransformer',
            width=text_width,
            num_layers=_count(state_dict, 'text_encoder.layers.', '.ln1.weight'),
            num_heads=text_width // 64,
            vocab_size=words,
            context_length=state_dict['text_encoder.pos_embed'].shape[0],
        ),
        text_projection=dict(
            type='TextProjectionHead',
            in_channels=text_width,
            embed_dims=state_dict['text_projection.projection.weight'].shape[0],
        ),
        objectives=dict(contrast=dict(type='ImageTextContrast')),
    )


def _count(state_dict: Mapping[str, Tensor], prefix: str, suffix: str) -> int:
    return sum(name.startswith(prefix) and name.endswith(suffix) for name in state_dict)
