"""Low-rank adapters of the linear layers of a tower (LoRA, Hu et al. 2022, section 4).

We do not use peft. It wraps each layer, which renames all weights of the tower, and the wrapper's ``weight``, which our
blocks read, leaves the adapter out. torch's parametrization renames them too, and builds the full weight and its full
gradient in every pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mmmaskclip.models.backbones.lora_linear import LoRALinear
from mmmaskclip.models.backbones.transformer_block import TransformerBlock

LAYERS = ('qkv', 'proj', 'ffn')


def add_lora(
    tower: nn.Module, name: str, rank: int = 8, alpha: float | None = None, layers: Sequence[str] = LAYERS
) -> None:
    """Freeze a tower and give the linear layers of its blocks adapters; changed in place.

    Names of the tower's weights stay. Each adapted layer has three more: ``lora_down``, normal at the start,
    ``lora_up``, zero at the start, so that the tower computes what it did, and ``lora_scale``.

    Args:
        tower: ``CLIPVisionTransformer``, ``CLIPTextTransformer`` or another tower of our blocks.
        name: What the config calls it, for messages.
        rank: Rank r of the adapters. Defaults to 8.
        alpha: The adapter's output is scaled by ``alpha / rank``. Defaults to ``rank``.
        layers: Which layers of each block: ``'qkv'``, ``'proj'`` (attention's output) and ``'ffn'``, both of its
            layers. Defaults to all.

    Raises:
        ValueError: If the tower is locked or has no such blocks, ``rank`` is not positive, or a layer is unknown.
    """
    if rank < 1:
        raise ValueError(f'lora.{name}.rank={rank}: give the rank of the adapters, e.g. 8')
    if isinstance(layers, str) or not layers or not {*layers} <= {*LAYERS}:
        raise ValueError(f"lora.{name}.layers={layers!r}: give a list of 'qkv', 'proj' and 'ffn'")
    if getattr(tower, 'frozen_stages', 0) > 0 or not any(p.requires_grad for p in tower.parameters()):
        raise ValueError(
            f'{name} is locked (frozen_stages or frozen) and has lora: a locked tower learns nothing, adapters learn. '
            'Leave one of them out.'
        )
    blocks = [module for module in tower.modules() if isinstance(module, TransformerBlock)]
    if not blocks:
        raise ValueError(
            f'lora.{name}: {type(tower).__name__} has no blocks of ours, whose layers could be adapted. Use '
            'CLIPVisionTransformer or CLIPTextTransformer, or leave lora out.'
        )
    tower.requires_grad_(False)
    for block in blocks:
        for linear in _linears(block, layers):
            _adapt(linear, rank, (rank if alpha is None else alpha) / rank)


def _linears(block: Any, layers: Sequence[str]) -> list[nn.Linear]:
    chosen = {'qkv': [block.attn.qkv], 'proj': [block.attn.proj]}
    chosen['ffn'] = [module for module in block.ffn.modules() if isinstance(module, nn.Linear)]
    return [linear for layer in layers for linear in chosen[layer]]


def _adapt(linear: nn.Linear, rank: int, scale: float) -> None:
    linear.__class__ = LoRALinear
    down = torch.randn(rank, linear.in_features) * linear.in_features**-0.5
    linear.register_parameter('lora_down', nn.Parameter(down.to(linear.weight.device)))
    linear.register_parameter('lora_up', nn.Parameter(torch.zeros_like(linear.weight[:, :1]).repeat(1, rank)))
    linear.register_buffer('lora_scale', torch.tensor(scale, device=linear.weight.device))
