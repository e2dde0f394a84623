"""Dense features: how to read one vector per patch from the image tower.

A read-out is a function ``(tower, x, grid, **options) -> patches``. It gets the input of the first block, x (B, E + N,
C), and the grid (rows, columns), N = rows * columns; the first E tokens (class token, registers) belong to no patch. It
returns the patches (B, N, C) after the tower's final norm, ready for the image projection. Every consumer (evaluation,
probes, segmentor, inferencer, pictures) reaches it through ``CLIPVisionTransformer.dense``. To add one, write the
function here under ``@register_read_out`` and its NumPy reference in ``tests/test_models/test_backbones/
test_read_outs.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mmpretrain.models.backbones.vision_transformer import VisionTransformer
from torch import Tensor

Grid = tuple[int, int]
ReadOut = str | Mapping[str, Any]

READ_OUTS: dict[str, Callable[..., Tensor]] = {}


def register_read_out(name: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorator: make a function available as ``read_out=name``."""

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        READ_OUTS[name] = function
        return function

    return register


def find_read_out(read_out: ReadOut) -> Callable[[VisionTransformer, Tensor, Grid], Tensor]:
    """The function that a config names.

    Args:
        read_out: A name, or ``dict(type=NAME, **options)``.

    Returns:
        The function with its options set.

    Raises:
        ValueError: If the name is unknown, or the read-out has no such option.
    """
    options = {'type': read_out} if isinstance(read_out, str) else dict(read_out)
    name = options.pop('type', None)
    if name not in READ_OUTS:
        raise ValueError(f'read_out={name!r}: choose one of {", ".join(READ_OUTS)}')
    function = READ_OUTS[name]
    # The first three are what every read-out gets.
    known = list(inspect.signature(function).parameters)[3:]
    if unknown := [key for key in options if key not in known]:
        raise ValueError(f'read_out {name!r} has no option {unknown[0]!r}: it has {", ".join(known) or "none"}')
    return partial(function, **options)


@register_read_out('patch')
def read_patches(tower: VisionTransformer, x: Tensor, grid: Grid) -> Tensor:
    """The tower's output."""
    for layer in tower.layers:
        x = layer(x)
    return _patches(tower, x, grid)


@register_read_out('value')
def read_values(tower: VisionTransformer, x: Tensor, grid: Grid) -> Tensor:
    """In the last block every token attends to itself alone; the rest of the block is unchanged.

    Zhou et al., "Extract Free Dense Labels from CLIP", ECCV 2022, section 3.2: CLIP's last attention gathers global
    information for the class token, so that its patch tokens say little about their own place.
    """
    for layer in tower.layers[:-1]:
        x = layer(x)
    last = tower.layers[-1]
    attention = last.attn
    value = attention.qkv(last.ln1(x)).chunk(3, dim=-1)[2]  # (B, E + N, C)
    x = x + attention.out_drop(attention.gamma1(attention.proj_drop(attention.proj(value))))
    return _patches(tower, last.ffn(last.ln2(x), identity=x), grid)


def _patches(tower: VisionTransformer, x: Tensor, grid: Grid) -> Tensor:
    """The last block's output without its extra tokens, after the final norm: (B, N, C)."""
    patches = x[:, x.shape[1] - grid[0] * grid[1] :]
    return tower.ln1(patches) if tower.final_norm else patches
