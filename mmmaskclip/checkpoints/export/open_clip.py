"""To OpenCLIP: a folder that ``open_clip.create_model_and_transforms('local-dir:FOLDER')`` loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmmaskclip.checkpoints.export.parts import (
    NotExpressible,
    Pixels,
    Settings,
    check_parts,
    logit,
    pixels_of,
    positions_with_bias,
    refuse_settings,
    renamed,
    settings_of,
    tower,
)
from mmmaskclip.checkpoints.export.refusals import is_trunk, lost_in_texts
from mmmaskclip.checkpoints.export.trunks import open_clip_trunk
from mmmaskclip.checkpoints.export.words import OPEN_CLIP_BLOCK, open_clip_text_weights, open_clip_words

_PLAIN = {'context_length', 'vocab_size', 'width', 'heads', 'layers'}
_IMAGE = {
    'patch_embed.projection.weight': 'visual.conv1.weight',
    'pre_norm.': 'visual.ln_pre.',
    'ln1.': 'visual.ln_post.',
}


def to_open_clip(model: Any, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``open_clip_config.json`` and the weights of ``open_clip.CLIP``, or of ``CustomTextCLIP``.

    Everything of our towers is expressible but registers: mean pooling is ``pool_type='avg'``, a tower without a norm
    before the blocks ``no_ln_pre``, another eps ``norm_kwargs``, and the bias of the patch embedding is added to the
    positions. A ``TimmTower`` is OpenCLIP's ``TimmModel``.

    Args:
        model: A built ``ImageTextPretrainer``.
        state_dict: Its weights, with merged adapters.

    Raises:
        NotExpressible: If a tower has what OpenCLIP has not.
    """
    check_parts(model)
    if is_trunk(model.image_encoder):
        pixels = Pixels(**pixels_of(model))
        refuse_settings(lost_in_texts(model.text_encoder, model.text_projection))
        vision, weights = open_clip_trunk(model, state_dict)
        head = model.image_projection.projection
        settings = dict(embed_dim=getattr(head, 'out_features', model.image_encoder.embed_dims), quick_gelu=False)
    else:
        ours = settings_of(model)
        pixels = ours
        vision, weights = _image(ours, state_dict)
        settings = dict(embed_dim=ours.embed_dims, quick_gelu=ours.quick_gelu)
    words = open_clip_words(model.text_encoder, model.text_projection)
    texts = open_clip_text_weights(tower(state_dict, 'text_encoder.'), tower(state_dict, 'text_projection.projection.'))
    # Its plain CLIP has the plain text tower only.
    custom = is_trunk(model.image_encoder) or set(words) - _PLAIN
    if custom:
        settings['custom_text'] = True
        texts = {f'text.{name}': value for name, value in texts.items()}
    weights |= texts
    for kind in ('logit_scale', 'logit_bias'):
        if (learned := logit(state_dict, kind)) is not None:
            weights[kind] = learned.reshape(())
    settings |= dict(vision_cfg=vision, text_cfg=words)
    if 'logit_bias' in weights:
        settings['init_logit_bias'] = float(weights['logit_bias'])
    return dict(model_cfg=settings, preprocess_cfg=preprocess_of(pixels)), weights


def _image(settings: Settings, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``vision_cfg`` and the weights of OpenCLIP's own ViT."""
    if settings.registers:
        raise NotExpressible(
            f'OpenCLIP has no registers: without the {settings.registers} of this tower its features would be others. '
            'Export the image tower with --to timm, which has them, or train with num_registers=0'
        )
    image = tower(state_dict, 'image_encoder.')
    weights = {
        'visual.class_embedding': image['cls_token'].flatten(),
        'visual.positional_embedding': positions_with_bias(image)[0],
        'visual.proj': state_dict['image_projection.projection.weight'].t(),
    }
    for name, value in image.items():
        if new := renamed(name, OPEN_CLIP_BLOCK, _IMAGE, 'visual.transformer.resblocks.'):
            weights[new] = value
    height, width = settings.image_size
    return dict(
        image_size=height if height == width else [height, width],
        layers=settings.layers,
        width=settings.width,
        head_width=settings.width // settings.heads,
        mlp_ratio=settings.hidden / settings.width,
        patch_size=settings.patch_size,
        pool_type='tok' if settings.pool == 'cls' else 'avg',
        no_ln_pre=not settings.pre_norm,
        norm_kwargs=dict(eps=settings.eps),
    ), weights


def preprocess_of(pixels: Pixels) -> dict[str, Any]:
    """The preprocessing of images as OpenCLIP writes it, ``preprocess_cfg``."""
    return dict(
        size=list(pixels.image_size),
        mode='RGB',
        mean=list(pixels.mean),
        std=list(pixels.std),
        interpolation=pixels.interpolation,
        resize_mode=pixels.resize_mode,
    )
