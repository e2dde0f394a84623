"""The config of a CLIP whose image tower is a ViT of timm: SigLIP, EVA-CLIP, PE-Core, MobileCLIP."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmmaskclip.checkpoints.text_facts import GEMMA, SIGLIP, check_text, text_config
from mmmaskclip.startup.dependencies import TOWERS, pip_install

TRUNK = 'image_encoder.trunk.'
_OPENAI = dict(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))
_HALF = dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
# How OpenCLIP's list of weights has images prepared, by family.
_PIXELS: dict[str, dict[str, Any]] = {
    'siglip': dict(_HALF, interpolation='bicubic', resize_mode='squash'),
    'pe_core': dict(_HALF, interpolation='bilinear', resize_mode='squash'),
    'eva': dict(_OPENAI, interpolation='bicubic', resize_mode='shortest'),
    'clip': dict(_OPENAI, interpolation='bicubic', resize_mode='shortest'),
    'mci': dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation='bilinear', resize_mode='shortest'),
}
# timm's names without the image size: family, width, blocks, patch size.
KNOWN_TRUNKS = {
    'vit_base_patch16_siglip': ('siglip', 768, 12, 16),
    'vit_base_patch32_siglip': ('siglip', 768, 12, 32),
    'vit_large_patch16_siglip': ('siglip', 1024, 24, 16),
    'vit_so400m_patch14_siglip': ('siglip', 1152, 27, 14),
    'vit_so400m_patch16_siglip': ('siglip', 1152, 27, 16),
    'vit_giantopt_patch16_siglip': ('siglip', 1536, 40, 16),
    'eva_giant_patch14': ('eva', 1408, 40, 14),
    'eva02_base_patch16_clip': ('eva', 768, 12, 16),
    'eva02_large_patch14_clip': ('eva', 1024, 24, 14),
    'eva02_enormous_patch14_clip': ('eva', 1792, 64, 14),
    'vit_pe_core_tiny_patch16': ('pe_core', 192, 12, 16),
    'vit_pe_core_small_patch16': ('pe_core', 384, 12, 16),
    'vit_pe_core_base_patch16': ('pe_core', 768, 12, 16),
    'vit_pe_core_large_patch14': ('pe_core', 1024, 24, 14),
    'vit_pe_core_gigantic_patch14': ('pe_core', 1536, 50, 14),
    'vit_base_mci': ('mci', 768, 12, 16),
    'vit_large_patch14_clip': ('clip', 1024, 24, 14),
}
_FACTS = ('family', 'width', 'blocks', 'patch size')


@dataclass
class TrunkSettings:
    """What the files beside the weights say.

    Attributes:
        model_name: timm's name of the image tower, or None: it is told from the weights.
        model: Other arguments of ``timm.create_model``.
        text: OpenCLIP's ``text_cfg``, or None: SigLIP's where the tower is one, else OpenCLIP's defaults.
        pixels: mean, std, interpolation and resize_mode, as far as they are known.
        tokenizer: Path of ``tokenizer.json``, where it does not lie beside the weights.
        position_interpolation: See :class:`~mmmaskclip.models.backbones.TimmTower`; None for its default.
    """

    model_name: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] | None = None
    pixels: dict[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None
    position_interpolation: str | None = None


def timm_trunk(model_name: str, **settings: Any) -> Any:
    """A model of timm, with random weights.

    Raises:
        ImportError: If timm is not installed; the message has the command.
        ValueError: If it has no such model.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError(f'{model_name} is a model of timm: {pip_install(*TOWERS)}') from error
    if not timm.is_model(model_name):
        raise ValueError(f'model_name={model_name!r}: timm {timm.__version__} has no such model')
    return timm.create_model(model_name, pretrained=False, **settings)


def trunk_config(state_dict: Mapping[str, Tensor], settings: TrunkSettings, path: str | os.PathLike) -> dict[str, Any]:
    """The config of ``ImageTextPretrainer`` for weights, by our names, of a model with a trunk of timm.

    Raises:
        ImportError: If timm is not installed.
        ValueError: If the trunk is none that is known; the message names the nearest and how it differs.
    """
    here = trunk_facts(state_dict)
    name = settings.model_name or _known_name(here, state_dict, path)
    pooled = 'image_projection.query' in state_dict
    # On no device: only its settings are asked for.
    with torch.device('meta'):
        trunk = timm_trunk(name, num_classes=0, global_pool='map' if pooled else 'token', **settings.model)
    patch = trunk.patch_embed.feat_ratio()
    patch = patch if isinstance(patch, int) else patch[0]
    text = settings.text
    if text is None:
        text = {}
        if here[0] == 'siglip':
            gemma = state_dict['text_encoder.token_embedding.weight'].shape[0] == GEMMA
            text = SIGLIP | (dict(act_kwargs=dict(approximate='tanh')) if gemma else {})
    check_text(text, path)
    pixels = _PIXELS[here[0]] | settings.pixels
    tower = dict(type='TimmTower', model_name=name, img_size=_side(state_dict) * patch, **settings.model)
    if settings.position_interpolation:
        tower['position_interpolation'] = settings.position_interpolation
    return dict(
        type='ImageTextPretrainer',
        data_preprocessor=dict(
            type='ImageTextPreprocessor',
            mean=[255 * value for value in pixels['mean']],
            std=[255 * value for value in pixels['std']],
            interpolation=pixels['interpolation'],
            resize_mode=pixels['resize_mode'],
        ),
        image_encoder=tower,
        image_projection=_projection(state_dict, trunk),
        **text_config(state_dict, text, False, path, settings.tokenizer),
        objectives=dict(contrast=contrast_config(state_dict)),
    )


def contrast_config(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """The objective of weights by our names: with the sigmoid loss where they have its bias."""
    sigmoid = 'objectives.contrast.loss.bias' in state_dict
    return dict(type='ImageTextContrast', **(dict(loss=dict(type='SigmoidLoss')) if sigmoid else {}))


def _projection(state_dict: Mapping[str, Tensor], trunk: Any) -> dict[str, Any]:
    weight = state_dict.get('image_projection.projection.weight')
    head = dict(in_channels=trunk.embed_dim, embed_dims=None if weight is None else weight.shape[0])
    if 'image_projection.projection.bias' in state_dict:
        head['bias'] = True
    if trunk.attn_pool is None:
        return dict(type='ImageProjectionHead', pool='cls', **head)
    pool = trunk.attn_pool
    tanh = 'Tanh' in type(pool.mlp.act).__name__ or (
        isinstance(pool.mlp.act, nn.GELU) and pool.mlp.act.approximate == 'tanh'
    )
    return dict(
        type='AttentionPoolProjectionHead',
        num_heads=pool.num_heads,
        mlp_ratio=pool.mlp.fc1.out_features / trunk.embed_dim,
        eps=pool.norm.eps,
        activation='gelu_tanh' if tanh else 'gelu',
        with_cls=trunk.cls_token is not None,
        **head,
    )


def trunk_facts(state_dict: Mapping[str, Tensor]) -> tuple[str, int, int, int]:
    """Family, width, blocks and patch size of a trunk; each family has a part that no other has."""
    names = {name.removeprefix(TRUNK) for name in state_dict if name.startswith(TRUNK)}
    pooled, has_cls = 'image_projection.query' in state_dict, 'cls_token' in names
    if pooled:
        family = 'pe_core' if 'norm_pre.weight' in names else 'siglip'
    elif any(name.startswith('patch_embed.backbone.') for name in names):
        family = 'mci'
    else:
        family = 'clip' if has_cls and 'norm_pre.weight' in names else 'eva'
    embedding = state_dict.get(f'{TRUNK}patch_embed.proj.weight')
    table = state_dict.get(f'{TRUNK}pos_embed')
    width = 0 if table is None else table.shape[-1]
    blocks = len({name.split('.')[1] for name in names if name.startswith('blocks.')})
    return family, width, blocks, 16 if embedding is None else embedding.shape[-1]


def _side(state_dict: Mapping[str, Tensor]) -> int:
    """Patches along a side of the image that the positions are of."""
    count = state_dict[f'{TRUNK}pos_embed'].shape[1]
    # One for a class token, unless it has none of its own.
    side = math.isqrt(count)
    return side if side * side == count else math.isqrt(count - 1)


def _known_name(here: tuple[str, int, int, int], state_dict: Mapping[str, Tensor], path: str | os.PathLike) -> str:
    nearest = min(KNOWN_TRUNKS, key=lambda stem: (_unlike(KNOWN_TRUNKS[stem], here), stem))
    if KNOWN_TRUNKS[nearest] != here:
        raise ValueError(
            f'{os.fspath(path)!r} is of no tower that is known here, and there is no open_clip_config.json beside it. '
            f'{nearest_trunk(state_dict)}'
        )
    size = _side(state_dict) * here[3]
    import timm

    sized = [name for name in timm.list_models(f'{nearest}_*') if name.rpartition('_')[2].isdigit()]
    return min(sized, key=lambda name: (abs(int(name.rpartition('_')[2]) - size), name))


def _unlike(known: tuple, here: tuple) -> int:
    # A family differs in its parts, the other facts in numbers.
    return 10 * (known[0] != here[0]) + sum(a != b for a, b in zip(known[1:], here[1:], strict=True))


def nearest_trunk(state_dict: Mapping[str, Tensor]) -> str:
    """A sentence with the nearest known trunk, and in what it differs."""
    here = trunk_facts(state_dict)
    nearest = min(KNOWN_TRUNKS, key=lambda stem: (_unlike(KNOWN_TRUNKS[stem], here), stem))
    differs = [
        f'{fact} {mine} for {theirs}'
        for fact, mine, theirs in zip(_FACTS, here, KNOWN_TRUNKS[nearest], strict=True)
        if mine != theirs
    ]
    return f'The nearest known tower is {nearest} of timm' + (
        f'; it differs in {", ".join(differs)}.' if differs else '.'
    )
