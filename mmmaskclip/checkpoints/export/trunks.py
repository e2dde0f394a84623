"""Towers that are timm's (``TimmTower``) back in timm and in OpenCLIP, which builds them by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmmaskclip.checkpoints.export.parts import NotExpressible, Pixels, pixels_of, tower
from mmmaskclip.checkpoints.formats.timm_trunk import trunk_weights
from mmmaskclip.checkpoints.trunks import timm_trunk

_GRAPHS = '--to onnx and --to torchscript keep everything'


def timm_config(model: Any, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``config.json`` and the weights of timm's model: the image tower with its pool, without the projection.

    Args:
        model: A model with a ``TimmTower``.
        state_dict: Its weights.

    Raises:
        NotExpressible: If timm's model would compute other features.
    """
    image, head, pixels = model.image_encoder, model.image_projection, Pixels(**pixels_of(model))
    _check_tower(image, 'timm')
    if pixels.resize_mode not in CROP_MODES:
        raise NotExpressible(
            f'timm cannot say that images are resized with resize_mode={pixels.resize_mode!r}, and their features '
            f"would be others: train with data_preprocessor.resize_mode='squash'. {_GRAPHS}"
        )
    if image.position_interpolation != 'bicubic':
        raise NotExpressible(
            f'timm interpolates positions bicubically, this tower {image.position_interpolation}ly: at other image '
            f"sizes features would be others. Train with position_interpolation='bicubic'. {_GRAPHS}"
        )
    weights = trunk_weights(tower(state_dict, 'image_encoder.trunk.'), _pool_weights(state_dict))
    settings = dict(image.settings, global_pool=_pool(head))
    _check_fits(image.model_name, dict(settings, num_classes=0), weights, head)
    return dict(
        architecture=image.model_name,
        num_classes=0,
        num_features=image.embed_dims,
        global_pool=settings['global_pool'],
        model_args=settings,
        pretrained_cfg=timm_pixels(pixels),
    ), weights


def open_clip_trunk(model: Any, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``vision_cfg`` and the weights of OpenCLIP's ``TimmModel``.

    OpenCLIP builds timm's model by its name alone, with no other argument but pool and projection.

    Args:
        model: A built ``ImageTextPretrainer`` with a ``TimmTower``.
        state_dict: Its weights.

    Raises:
        NotExpressible: If the tower has other settings than the name says, or images are resized in a way that
            OpenCLIP has not.
    """
    image, head = model.image_encoder, model.image_projection
    _check_tower(image, 'OpenCLIP')
    resize_mode = pixels_of(model)['resize_mode']
    if resize_mode not in CROP_MODES:
        raise NotExpressible(
            f'OpenCLIP cannot resize images with resize_mode={resize_mode!r}: train with '
            f"data_preprocessor.resize_mode='squash'. {_GRAPHS}"
        )
    with torch.device('meta'):
        named = timm_trunk(image.model_name, num_classes=0)
    others = {key: value for key, value in image.settings.items() if key != 'img_size'}
    if tuple(named.patch_embed.img_size) != image.img_size:
        others['img_size'] = image.img_size
    if others:
        changes = ', '.join(f'{key}={value!r}' for key, value in others.items())
        raise NotExpressible(
            f"OpenCLIP builds timm's {image.model_name} by its name alone, and this tower has {changes}: its features "
            f'would be others. --to timm keeps it; {_GRAPHS}'
        )
    weights = trunk_weights(tower(state_dict, 'image_encoder.trunk.'), _pool_weights(state_dict))
    _check_fits(image.model_name, dict(num_classes=0, global_pool=_pool(head)), weights, head)
    weights = {f'visual.trunk.{name}': value for name, value in weights.items()}
    vision = dict(timm_model_name=image.model_name, image_size=image.img_size[0], timm_pool=_pool(head))
    projection = tower(state_dict, 'image_projection.projection.')
    # With a bias it is the classifier of timm's model, without one a layer behind it, or there is none.
    vision['timm_proj'] = None if 'bias' in projection else 'linear' if projection else 'none'
    place = 'visual.trunk.head' if 'bias' in projection else 'visual.head.proj'
    return vision, weights | {f'{place}.{kind}': value for kind, value in projection.items()}


#: timm's words for our ``resize_mode``.
CROP_MODES = {'shortest': 'center', 'squash': 'squash', 'longest': 'border'}


def timm_pixels(pixels: Pixels) -> dict[str, Any]:
    """The preprocessing of images as timm writes it, ``pretrained_cfg``."""
    return dict(
        input_size=[3, *pixels.image_size],
        interpolation=pixels.interpolation,
        crop_pct=1.0,
        crop_mode=CROP_MODES[pixels.resize_mode],
        mean=list(pixels.mean),
        std=list(pixels.std),
        num_classes=0,
        first_conv='patch_embed.proj',
        classifier='head',
    )


def _pool(head: Any) -> str:
    return 'map' if hasattr(head, 'query') else 'token' if head.pool == 'cls' else 'avg'


def _pool_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    head = tower(state_dict, 'image_projection.')
    return {name: value for name, value in head.items() if not name.startswith('projection.')}


def _check_tower(image: Any, library: str) -> None:
    """Refuse registers beside timm's model, and blocks on top of it."""
    if image.registers is not None:
        raise NotExpressible(
            f'{library} builds {image.model_name} without the {image.registers.shape[1]} registers of this tower, and '
            f'its features would be others: train with num_registers=0. {_GRAPHS}'
        )
    if hasattr(image, 'top_blocks'):
        raise NotExpressible(
            f'{library} has no tower with {len(image.top_blocks)} further blocks on top of a ViT '
            f'({type(image).__name__}): without them the features would not be those that were compared with text. '
            f'{_GRAPHS}'
        )


def _check_fits(name: str, settings: dict[str, Any], weights: Mapping[str, Tensor], head: Any) -> None:
    """Compare names and shapes, and what shapes do not show of a pool, with the model that timm builds."""
    if settings['global_pool'] == 'avg' or not hasattr(head, 'projection'):
        raise NotExpressible(
            f'timm norms after the mean over patches, {type(head).__name__} before it: the pooled features would be '
            f"others. Train with image_projection.pool='cls'. {_GRAPHS}"
        )
    if type(head).__name__ == 'ClassAndPatchesProjectionHead':
        raise NotExpressible(
            f'timm pools one token, this model the class token and the mean of its patches side by side. {_GRAPHS}'
        )
    with torch.device('meta'):
        theirs = timm_trunk(name, **settings)
    expected = {key: value.shape for key, value in theirs.state_dict().items()}
    given = {key: value.shape for key, value in weights.items()}
    pool, differs = getattr(theirs, 'attn_pool', None), []
    if settings['global_pool'] == 'map':
        differs = [
            f'{what} {mine} for {its}'
            for what, mine, its in (
                ('heads', head.attention.num_heads, pool.num_heads),
                ('eps', head.norm.eps, pool.norm.eps),
                ('the class token', head.with_cls, theirs.cls_token is not None),
            )
            if mine != its
        ]
        probe = torch.linspace(-3, 3, 64)
        if not torch.allclose(head.mlp[1](probe), pool.mlp.act(probe), atol=1e-5):
            differs.append(f'the activation {head.mlp[1]} for {pool.mlp.act}')
    differs += sorted(key for key in {*expected, *given} if expected.get(key) != given.get(key))[:5]
    if differs:
        raise NotExpressible(
            f'{type(head).__name__} and the tower are not what timm builds as {name}: they differ in '
            f'{", ".join(differs)}. {_GRAPHS}'
        )
