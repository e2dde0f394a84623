"""To OpenCLIP: a folder that ``open_clip.create_model_and_transforms('local-dir:FOLDER')`` loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmmaskclip.checkpoints.export.parts import (
    NotExpressible,
    Settings,
    logit,
    positions_with_bias,
    renamed,
    tower,
)

_BLOCK = {
    'ln1.': 'ln_1.',
    'ln2.': 'ln_2.',
    'attn.qkv.': 'attn.in_proj_',
    'attn.proj.': 'attn.out_proj.',
    'ffn.layers.0.0.': 'mlp.c_fc.',
    'ffn.layers.1.': 'mlp.c_proj.',
}
_IMAGE = {
    'patch_embed.projection.weight': 'visual.conv1.weight',
    'pre_norm.': 'visual.ln_pre.',
    'ln1.': 'visual.ln_post.',
}
_TEXT = {'token_embedding.': 'token_embedding.', 'pos_embed': 'positional_embedding', 'final_norm.': 'ln_final.'}


def to_open_clip(settings: Settings, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``open_clip_config.json`` and the weights of ``open_clip.CLIP``.

    Everything of our towers is expressible but registers: mean pooling is ``pool_type='avg'``, a tower without a norm
    before the blocks ``no_ln_pre``, another eps ``norm_kwargs``, and the bias of the patch embedding is added to the
    positions.

    Raises:
        NotExpressible: If the image tower has registers.
    """
    if settings.registers:
        raise NotExpressible(
            f'OpenCLIP has no registers: without the {settings.registers} of this tower its features would be others. '
            'Export the image tower with --to timm, which has them, or train with num_registers=0'
        )
    image, text = tower(state_dict, 'image_encoder.'), tower(state_dict, 'text_encoder.')
    weights = {
        'visual.class_embedding': image['cls_token'].flatten(),
        'visual.positional_embedding': positions_with_bias(image)[0],
        'visual.proj': state_dict['image_projection.projection.weight'].t(),
        'text_projection': state_dict['text_projection.projection.weight'].t(),
    }
    for part, other, blocks in (
        (image, _IMAGE, 'visual.transformer.resblocks.'),
        (text, _TEXT, 'transformer.resblocks.'),
    ):
        for name, value in part.items():
            if new := renamed(name, _BLOCK, other, blocks):
                weights[new] = value
    for kind in ('logit_scale', 'logit_bias'):
        if (learned := logit(state_dict, kind)) is not None:
            weights[kind] = learned.reshape(())
    height, width = settings.image_size
    vision = dict(
        image_size=height if height == width else [height, width],
        layers=settings.layers,
        width=settings.width,
        head_width=settings.width // settings.heads,
        mlp_ratio=settings.hidden / settings.width,
        patch_size=settings.patch_size,
        pool_type='tok' if settings.pool == 'cls' else 'avg',
        no_ln_pre=not settings.pre_norm,
        norm_kwargs=dict(eps=settings.eps),
    )
    words = dict(
        context_length=settings.context_length,
        vocab_size=settings.vocab_size,
        width=settings.text_width,
        heads=settings.text_heads,
        layers=settings.text_layers,
    )
    model = dict(embed_dim=settings.embed_dims, quick_gelu=settings.quick_gelu, vision_cfg=vision, text_cfg=words)
    if 'logit_bias' in weights:
        model['init_logit_bias'] = float(weights['logit_bias'])
    return dict(model_cfg=model, preprocess_cfg=pixels_of(settings)), weights


def pixels_of(settings: Settings) -> dict[str, Any]:
    """The preprocessing of images as OpenCLIP writes it, ``preprocess_cfg``."""
    return dict(
        size=list(settings.image_size),
        mode='RGB',
        mean=list(settings.mean),
        std=list(settings.std),
        interpolation=settings.interpolation,
        resize_mode=settings.resize_mode,
    )
