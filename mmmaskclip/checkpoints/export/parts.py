"""What every export needs: the settings of a model, its towers' weights, and a refusal that says what would be lost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mmmaskclip.checkpoints.export.refusals import lost_anywhere, lost_in_settings


class NotExpressible(ValueError):
    """A model that another library cannot build; the message says what would be lost, and what to do."""


@dataclass(frozen=True)
class Settings:
    """The settings of a model, read from its built towers, so that every default is known.

    Attributes:
        image_size: Height and width of the images.
        patch_size: Side of a patch.
        width: Width of the image tower.
        layers: Its blocks.
        heads: Its attention heads.
        hidden: Width of its feed-forward layers.
        pre_norm: Whether it has a norm before the blocks.
        eps: Of its norms.
        quick_gelu: Whether both towers have QuickGELU.
        registers: Number of register tokens.
        pool: ``'cls'`` or ``'mean'``.
        embed_dims: Size of the shared embedding.
        text_width: Width of the text tower.
        text_layers: Its blocks.
        text_heads: Its heads.
        context_length: Its longest caption in tokens.
        vocab_size: Its number of token ids.
        mean: Of R, G and B from 0 to 1.
        std: Likewise.
        interpolation: Filter of the resize.
        resize_mode: See :class:`~mmmaskclip.models.pretrainers.ImageTextPreprocessor`.
    """

    image_size: tuple[int, int]
    patch_size: int
    width: int
    layers: int
    heads: int
    hidden: int
    pre_norm: bool
    eps: float
    quick_gelu: bool
    registers: int
    pool: str
    embed_dims: int
    text_width: int
    text_layers: int
    text_heads: int
    context_length: int
    vocab_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str


def settings_of(model: Any, image_alone: bool = False, as_graph: bool = False) -> Settings:
    """The settings of a built ``ImageTextPretrainer``.

    Args:
        model: The model; with ``image_alone`` also one without a text tower, or one of mmpretrain's around a
            ``backbone`` (SimCLR, MAE): the mean of its patches is pooled then.
        image_alone: Whether the format holds the image tower only. Defaults to False.
        as_graph: Whether the format holds what the model computes, and not its settings. Defaults to False.

    Raises:
        NotExpressible: If it lacks a text tower, its towers differ in the activation, or it has what
            :mod:`~mmmaskclip.checkpoints.export.refusals` names.
    """
    parts: dict[str, Any] = dict(model.named_children())
    image = parts.get('image_encoder') or parts['backbone']
    text, head = parts.get('text_encoder'), parts.get('image_projection')
    if not image_alone and (text is None or head is None):
        raise NotExpressible('the model has no text tower or no projections; --to timm writes its image tower')
    if lost := list(lost_anywhere(image, text)):
        raise NotExpressible(f'the features of an export would be others: {"; ".join(lost)}')
    if not as_graph:
        words, heads = (None, ()) if image_alone else (text, (head, parts['text_projection']))
        if lost := list(lost_in_settings(image, words, heads)):
            raise NotExpressible(
                f'no settings of another library say what this model computes: {"; ".join(lost)}. --to onnx and '
                '--to torchscript keep everything'
            )
    gelus = {_quick_gelu(tower.layers[0]) for tower in (image, text) if tower is not None}
    if len(gelus) > 1 and not image_alone:
        raise NotExpressible('the towers have different activations; set quick_gelu alike in both')
    block, pixels = image.layers[0], model.data_preprocessor
    return Settings(
        image_size=(image.img_size[0], image.img_size[1]),
        patch_size=_patch_size(image.patch_embed),
        width=image.embed_dims,
        layers=len(image.layers),
        heads=block.attn.num_heads,
        hidden=block.ffn.layers[1].in_features,
        pre_norm=not isinstance(image.pre_norm, nn.Identity),
        eps=block.ln1.eps,
        quick_gelu=_quick_gelu(block),
        registers=getattr(image, 'num_registers', 0),
        pool=head.pool if head is not None else 'mean',
        embed_dims=getattr(getattr(head, 'projection', None), 'out_features', image.embed_dims),
        text_width=text.width if text is not None else 0,
        text_layers=len(text.layers) if text is not None else 0,
        text_heads=text.layers[0].attn.num_heads if text is not None else 0,
        context_length=text.context_length if text is not None else 0,
        vocab_size=text.token_embedding.num_embeddings if text is not None else 0,
        mean=tuple(value / 255 for value in pixels.mean.flatten().tolist()),
        std=tuple(value / 255 for value in pixels.std.flatten().tolist()),
        # mmpretrain's preprocessor does not say how images were resized.
        interpolation=getattr(pixels, 'interpolation', 'bicubic'),
        resize_mode=getattr(pixels, 'resize_mode', 'shortest'),
    )


def _patch_size(embedding: Any) -> int:
    stem = type(embedding).__name__ == 'ConvStem'
    return embedding.stride if stem else embedding.projection.kernel_size[0]


def _quick_gelu(block: Any) -> bool:
    return any(type(part).__name__ == 'QuickGELU' for part in block.modules())


def tower(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}


def positions_with_bias(state_dict: Mapping[str, Tensor]) -> Tensor:
    """Positions (1, 1 + N, C) of an image tower, with the bias of its patch embedding added to those of the patches.

    OpenCLIP and transformers have no such bias. Added to the positions it gives the same tokens.
    """
    positions = state_dict['pos_embed'].clone()
    bias = state_dict.get('patch_embed.projection.bias')
    if bias is not None:
        positions[:, 1:] += bias  # (1, N, C) + (C,)
    return positions


def renamed(name: str, block: Mapping[str, str], other: Mapping[str, str], blocks: str) -> str | None:
    """A name of one of our towers in another library; None if the tables have none.

    Args:
        name: Ours, below the tower.
        block: Ours to theirs, within a block.
        other: Ours to theirs, elsewhere; keys with a last dot are prefixes.
        blocks: Prefix of their blocks, before the number.
    """
    if match := re.fullmatch(r'layers\.(\d+)\.(.+)', name):
        for ours, theirs in block.items():
            if match[2].startswith(ours):
                return f'{blocks}{match[1]}.{theirs}{match[2].removeprefix(ours)}'
    for ours, theirs in other.items():
        if name == ours or (ours.endswith('.') and name.startswith(ours)):
            return theirs + name.removeprefix(ours)
    return None


def logit(state_dict: Mapping[str, Tensor], kind: str) -> Tensor | None:
    """The learned ``'logit_scale'`` or ``'logit_bias'`` of the first objective that has one."""
    return next((value for name, value in state_dict.items() if name.endswith(f'.{kind}')), None)
