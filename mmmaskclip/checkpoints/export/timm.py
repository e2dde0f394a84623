"""To timm: a folder whose image tower ``timm.create_model('local-dir:FOLDER', pretrained=True)`` loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmmaskclip.checkpoints.export.parts import NotExpressible, image_tower, renamed, settings_of, tower
from mmmaskclip.checkpoints.export.refusals import is_trunk
from mmmaskclip.checkpoints.export.trunks import timm_config, timm_pixels

_BLOCK = {
    'ln1.': 'norm1.',
    'ln2.': 'norm2.',
    'attn.': 'attn.',
    'ffn.layers.0.0.': 'mlp.fc1.',
    'ffn.layers.1.': 'mlp.fc2.',
}
_OTHER = {
    'cls_token': 'cls_token',
    'patch_embed.projection.': 'patch_embed.proj.',
    'pre_norm.': 'norm_pre.',
    'ln1.': 'norm.',
}
# timm's towers by the eps of their norms and their activation; sizes are arguments.
_ARCHITECTURES = {
    (1e-6, False): 'vit_base_patch16_224',
    (1e-5, False): 'vit_base_patch16_clip_224',
    (1e-5, True): 'vit_base_patch16_clip_quickgelu_224',
}


def to_timm(model: Any, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``config.json`` and the weights of timm's ``VisionTransformer``: the image tower without its projection.

    A ``TimmTower`` is the model that its name says.

    Args:
        model: The built model.
        state_dict: Its weights, with merged adapters.

    Raises:
        NotExpressible: If timm's model would compute other features.
    """
    if is_trunk(image_tower(model)):
        return timm_config(model, state_dict)
    settings = settings_of(model, image_alone=True)
    architecture = _ARCHITECTURES.get((settings.eps, settings.quick_gelu))
    if architecture is None:
        raise NotExpressible(
            f'timm has no tower with eps={settings.eps} and {"QuickGELU" if settings.quick_gelu else "GELU"}: one of '
            "the two would change. Train with norm_cfg=dict(type='LN', eps=1e-5)"
        )
    image = tower(state_dict, 'image_encoder.') or tower(state_dict, 'backbone.')
    weights = {new: value for name, value in image.items() if (new := renamed(name, _BLOCK, _OTHER, 'blocks.'))}
    positions = image['pos_embed']  # (1, 1 + N, C)
    if settings.registers:
        weights['reg_token'] = image['registers']
        # timm adds positions to registers; ours have none.
        none = torch.zeros_like(image['registers'])
        positions = torch.cat((positions[:, :1], none, positions[:, 1:]), dim=1)  # (1, 1 + R + N, C)
    weights['pos_embed'] = positions
    arguments = dict(
        img_size=list(settings.image_size),
        patch_size=settings.patch_size,
        embed_dim=settings.width,
        depth=settings.layers,
        num_heads=settings.heads,
        mlp_ratio=settings.hidden / settings.width,
        pre_norm=settings.pre_norm,
        reg_tokens=settings.registers,
        global_pool='token' if settings.pool == 'cls' else 'avg',
        # Ours normalizes before the mean is taken.
        fc_norm=False,
    )
    # timm leaves the bias of the patch embedding out where there is a norm behind it.
    if settings.pre_norm == ('patch_embed.proj.bias' in weights):
        raise NotExpressible('timm has a bias in the patch embedding only without a norm before the blocks')
    return (
        dict(
            architecture=architecture,
            num_classes=0,
            num_features=settings.width,
            global_pool=arguments['global_pool'],
            model_args=arguments,
            pretrained_cfg=timm_pixels(settings),
        ),
        weights,
    )
