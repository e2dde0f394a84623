"""What every export needs: the settings of a model, its towers' weights, and a refusal that says what would be lost."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mmmaskclip.checkpoints.export.refusals import lost_anywhere, lost_in_settings, lost_in_texts


class NotExpressible(ValueError):
    """A model that another library cannot build; the message says what would be lost, and what to do."""


@dataclass(frozen=True)
class Pixels:
    """How images are prepared.

    Attributes:
        image_size: Height and width of the images.
        mean: Of R, G and B from 0 to 1.
        std: Likewise.
        interpolation: Filter of the resize.
        resize_mode: See :class:`~mmmaskclip.models.pretrainers.ImageTextPreprocessor`.
    """

    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str


@dataclass(frozen=True)
class Settings(Pixels):
    """The settings of a model with a ``CLIPVisionTransformer``, read from its built tower, so that defaults are known.

    Attributes:
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
    """

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


def image_tower(model: Any) -> Any:
    """The image tower of an ``ImageTextPretrainer``, or of a model of mmpretrain's around a ``backbone``."""
    parts: dict[str, Any] = dict(model.named_children())
    return parts.get('image_encoder') or parts['backbone']


def pixels_of(model: Any) -> dict[str, Any]:
    """The fields of :class:`Pixels`."""
    image, pixels = image_tower(model), model.data_preprocessor
    return dict(
        image_size=(image.img_size[0], image.img_size[1]),
        mean=tuple(value / 255 for value in pixels.mean.flatten().tolist()),
        std=tuple(value / 255 for value in pixels.std.flatten().tolist()),
        # mmpretrain's preprocessor does not say how images were resized.
        interpolation=getattr(pixels, 'interpolation', 'bicubic'),
        resize_mode=getattr(pixels, 'resize_mode', 'shortest'),
    )


def check_parts(model: Any) -> None:
    """Refuse a model that lacks a part of an export of both towers, or has what not even a graph keeps.

    Raises:
        NotExpressible: Names what would be lost.
    """
    parts: dict[str, Any] = dict(model.named_children())
    if parts.get('text_encoder') is None or parts.get('image_projection') is None:
        raise NotExpressible('the model has no text tower or no projections; --to timm writes its image tower')
    _refuse(lost_anywhere(image_tower(model)))


def _refuse(lost: Iterable[str]) -> None:
    if lost := list(lost):
        raise NotExpressible(f'the features of an export would be others: {"; ".join(lost)}')


def refuse_settings(lost: Iterable[str]) -> None:
    """Refuse what no settings of another library say, and a graph keeps.

    Raises:
        NotExpressible: If ``lost`` is not empty.
    """
    if lost := list(lost):
        raise NotExpressible(
            f'no settings of another library say what this model computes: {"; ".join(lost)}. --to onnx and '
            '--to torchscript keep everything'
        )


def settings_of(model: Any, image_alone: bool = False) -> Settings:
    """The settings of a built ``ImageTextPretrainer``.

    Args:
        model: The model; with ``image_alone`` also one without a text tower, or one of mmpretrain's around a
            ``backbone`` (SimCLR, MAE): the mean of its patches is pooled then.
        image_alone: Whether the format holds the image tower only. Defaults to False.

    Raises:
        NotExpressible: If it lacks a text tower, its towers differ in the activation, or it has what
            :mod:`~mmmaskclip.checkpoints.export.refusals` names.
    """
    image, parts = image_tower(model), dict(model.named_children())
    text, head = parts.get('text_encoder'), parts.get('image_projection')
    if image_alone:
        _refuse(lost_anywhere(image))
        refuse_settings(lost_in_settings(image, None))
    else:
        check_parts(model)
        refuse_settings([*lost_in_settings(image, head), *lost_in_texts(text, parts['text_projection'])])
        if _quick_gelu(image.layers[0]) != _quick_gelu(text.layers[0]):
            raise NotExpressible('the towers have different activations; set quick_gelu alike in both')
    block = image.layers[0]
    return Settings(
        **pixels_of(model),
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
    """The learned ``'logit_scale'``, or ``'logit_bias'`` of a sigmoid loss, of the first objective that has one."""
    ending = {'logit_scale': '.logit_scale', 'logit_bias': '.loss.bias'}[kind]
    return next((value for name, value in state_dict.items() if name.endswith(ending)), None)
