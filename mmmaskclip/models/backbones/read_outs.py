"""Dense features: how to read one vector per patch from the image tower.

A read-out is a function ``(blocks, x, grid, **options) -> patches``. It gets the tower's blocks and the input of the
first, x (B, E + N, C), and the grid (rows, columns), N = rows * columns; the first E tokens (class token, registers)
belong to no patch. It returns the patches (B, N, C) before the tower's final norm. Every consumer (evaluation, probes,
segmentor, inferencer, pictures) reaches it through the tower's ``dense``. To add one, write the function here under
``@register_read_out`` and its NumPy reference in ``tests/read_out_references.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmmaskclip.models.backbones.last_block import (
    Grid,
    Heads,
    ReadableBlock,
    StitchedBlock,
    Weigh,
    attend,
    gathered,
    joined,
    scores,
    squared_distances,
)
from mmmaskclip.models.backbones.outlier_patches import mean_of_similar, repair_outliers, similarity_of_patches
from mmmaskclip.models.backbones.register_neurons import Neurons, move_activations
from mmmaskclip.models.backbones.semantic_feedback import SemanticFeedback

ReadOut = str | Mapping[str, Any]

READ_OUTS: dict[str, Callable[..., Tensor]] = {}
_OF_BLOCKS_BEFORE = ('resclip', 'self_calibrated')

Blocks = Sequence[ReadableBlock]


def register_read_out(name: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorator: make a function available as ``read_out=name``."""

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        READ_OUTS[name] = function
        return function

    return register


def find_read_out(read_out: ReadOut) -> Callable[[Blocks, Tensor, Grid], Tensor]:
    """The function that a config names.

    Args:
        read_out: A name, or ``dict(name=NAME, **options)``. Every read-out has the option ``registers``, neurons by
            block, see :func:`~mmmaskclip.models.backbones.register_neurons.find_register_neurons`: one more token, of
            zeros at first, takes over their activations. All but ``'resclip'`` and ``'self_calibrated'`` also have
            ``windows``: the images of the batch are windows of one image, see
            :class:`~mmmaskclip.models.backbones.last_block.StitchedBlock`.

    Returns:
        The function with its options set.

    Raises:
        ValueError: If the name is unknown, or the read-out has no such option.
    """
    options: dict[str, Any] = {'name': read_out} if isinstance(read_out, str) else dict(read_out)
    # Not `type`, which in a config is a registered class.
    name = options.pop('name', None)
    if name not in READ_OUTS:
        raise ValueError(f'read_out={name!r}: choose one of {", ".join(READ_OUTS)}')
    function = READ_OUTS[name]
    registers, windows = options.pop('registers', None), options.pop('windows', None)
    if windows is not None and name in _OF_BLOCKS_BEFORE:
        raise ValueError(f'read_out {name!r} takes its weights from blocks before the last, whose windows stay apart')
    # The first three are what every read-out gets.
    known = list(inspect.signature(function).parameters)[3:]
    if unknown := [key for key in options if key not in known]:
        raise ValueError(f'read_out {name!r} has no option {unknown[0]!r}: it has {", ".join(known) or "none"}')
    if options.get('feedback') is not None:
        SemanticFeedback.of(options['feedback'])
    read = partial(function, **options)
    if windows is not None:
        read = partial(_with_windows, read, windows)
    return read if registers is None else partial(_with_register, read, registers)


def _with_windows(read: Callable, windows: Sequence, blocks: Blocks, x: Tensor, grid: Grid) -> Tensor:
    if len(windows) != len(x):
        raise ValueError(f'{len(windows)} windows for {len(x)} images: give the place of each')
    return read([*blocks[:-1], StitchedBlock(blocks[-1], windows, grid)], x, grid)


def _with_register(read: Callable, neurons: Neurons, blocks: Blocks, x: Tensor, grid: Grid) -> Tensor:
    """A read-out with one more token, behind a class token, that takes the activations of some neurons."""
    place = min(1, x.shape[1] - grid[0] * grid[1])
    x = torch.cat((x[:, :place], torch.zeros_like(x[:, :1]), x[:, place:]), dim=1)
    with move_activations(blocks, neurons, position=place):
        return read(blocks, x, grid)


@register_read_out('patch')
def read_patches(blocks: Blocks, x: Tensor, grid: Grid) -> Tensor:
    """The tower's output."""
    return _patches(_run(blocks, x), grid)


@register_read_out('value')
def read_values(blocks: Blocks, x: Tensor, grid: Grid) -> Tensor:
    """In the last block every token attends to itself alone; the rest of the block is unchanged.

    Zhou et al., "Extract Free Dense Labels from CLIP", ECCV 2022, section 3.2: CLIP's last attention gathers global
    information for the class token, so that its patches say little about their own place.
    """
    x = _run(blocks[:-1], x)
    with gathered(blocks[-1]) as last:
        return _whole_block(last, x, last.heads(x)[2], grid)


@register_read_out('qq')
def read_query_query(blocks: Blocks, x: Tensor, grid: Grid) -> Tensor:
    """ClearCLIP (Lan et al., ECCV 2024): the last block's attention alone, from queries to queries.

    Residual and feed-forward network, in which the noise sits, are left out."""
    return _self_self(blocks, x, grid, 0)


@register_read_out('kk')
def read_key_key(blocks: Blocks, x: Tensor, grid: Grid) -> Tensor:
    """ClearCLIP's read-out (see ``'qq'``) from keys to keys."""
    return _self_self(blocks, x, grid, 1)


@register_read_out('vv')
def read_value_value(blocks: Blocks, x: Tensor, grid: Grid) -> Tensor:
    """ClearCLIP's read-out (see ``'qq'``) from values to values."""
    return _self_self(blocks, x, grid, 2)


@register_read_out('csa')
def read_correlative(blocks: Blocks, x: Tensor, grid: Grid) -> Tensor:
    """SCLIP's correlative self-attention (Wang et al., ECCV 2024): softmax(q q) + softmax(k k) in the last block, whose
    residual and feed-forward network stay."""

    def weigh(tokens: Heads, seen: Heads, apart: Tensor) -> Tensor:
        return scores(tokens[0], seen[0]).softmax(-1) + scores(tokens[1], seen[1]).softmax(-1)

    x = _run(blocks[:-1], x)
    with gathered(blocks[-1]) as last:
        return _whole_block(last, x, attend(last, x, grid, weigh), grid)


@register_read_out('naclip')
def read_neighbourhood(blocks: Blocks, x: Tensor, grid: Grid, std: float = 5.0) -> Tensor:
    """NACLIP (Hajimiri et al., WACV 2025): key-key attention that prefers a patch's neighbours, without residual and
    feed-forward network.

    A Gaussian of the distance in patches, exp(-distance^2 / (2 std^2)), is added to the scores before the softmax.

    Args:
        blocks: See the module.
        x: See the module.
        grid: See the module.
        std: Standard deviation in patches. Defaults to 5, the paper's.
    """

    def weigh(tokens: Heads, seen: Heads, apart: Tensor) -> Tensor:
        return (scores(tokens[1], seen[1]) + (-apart / (2 * std**2)).exp()).softmax(-1)

    return _attention_alone(blocks, x, grid, weigh)


@register_read_out('resclip')
def read_residual(
    blocks: Blocks,
    x: Tensor,
    grid: Grid,
    weight: float = 0.5,
    gain: float = 1.0,
    std: float = 5.0,
    middle: tuple = (0.5, 0.75),
    feedback: Mapping[str, Any] | SemanticFeedback | None = None,
) -> Tensor:
    """ResCLIP (Yang et al., CVPR 2025, section 3): attention of blocks in the middle, and the first pass's segments.

    gain ((1 - weight) A_s + weight A_c), where A_s is NACLIP's attention and A_c the mean query-key attention of blocks
    in the middle, whose attention still knows places; residual and feed-forward network are left out. With ``feedback``
    the last block is read a second time, with the segmentation of the first in the scores of A_s; the other blocks are
    not. The released configs choose the numbers by data set: weight 0.2 to 0.6, gain 2, blocks 6 to 9 of 12.

    Args:
        blocks: See the module.
        x: See the module.
        grid: See the module.
        weight: Of the middle blocks. Defaults to 0.5.
        gain: Factor of the weights, which moves what is read against the projection's bias. Defaults to 1.
        std: See ``'naclip'``. Defaults to 5.
        middle: First and end of the middle, as shares of the depth. Defaults to (0.5, 0.75), blocks 7 to 9 of 12; ours,
            because the range depends on the tower.
        feedback: Settings of the second pass, for ``test_cfg.segmentor.read_out``, where there are class names; see
            :class:`~mmmaskclip.models.backbones.semantic_feedback.SemanticFeedback`. Defaults to None: one pass.
    """
    depth = _depth(blocks, 'resclip')
    first = min(int(depth * middle[0]), depth - 2)
    end = min(max(first + 1, int(depth * middle[1])), depth - 1)
    x = _run(blocks[:first], x)
    attention: Any = 0.0
    for block in blocks[first:end]:
        with gathered(block):
            q, k, _ = block.heads(x)
        attention = attention + scores(q, k).softmax(-1) / (end - first)
        x = block(x)
    x = _run(blocks[end:-1], x)
    with gathered(blocks[-1]) as last:
        _, k, v = last.heads(x)
        near = (-squared_distances(grid, k.shape[2], k.device) / (2 * std**2)).exp()

        def read(of_keys: Tensor) -> Tensor:
            weights = gain * ((1 - weight) * (of_keys + near).softmax(-1) + weight * attention)
            return _patches(last.project(joined(weights.to(v.dtype) @ v)), grid)

        of_keys = scores(k, k)
        patches = read(of_keys)
        if feedback is None:
            return patches
        return read(SemanticFeedback.of(feedback).mix(of_keys, patches, grid))


@register_read_out('self_calibrated')
def read_self_calibrated(
    blocks: Blocks,
    x: Tensor,
    grid: Grid,
    outliers: float = 0.05,
    neighbours: int = 20,
    before: float = 0.75,
    after: float = 1 / 3,
    levels: tuple[float, float] = (1 / 3, 5 / 6),
    threshold: float = 0.4,
) -> Tensor:
    """SC-CLIP (Bai et al., IEEE Transactions on Image Processing 34, 2025, section III; arXiv 2411.15869).

    With X^l the patches behind block l, and S^l the cosine similarities among them, those below ``threshold`` set to
    zero (section IV-A): outliers of the input of the last block are replaced by the mean of the patches around them
    that are none (equation 3); every patch becomes the mean of all, weighted by the rows of S^before, whose sum is made
    1 (equation 4); the last block is its attention alone, with the weights softmax(k k) + softmax(S^before) (equation
    5). The same block reads the sum of X^l over ``levels``, and the two results are added (section III-D); they become
    means weighted by S^after (equation 4, "post-adjustment").

    What the paper leaves open is ours: the similarity in equation 5 is that of ``before``, the class token takes no
    part, all steps stand before the tower's final norm, and the local outlier factor looks at 20 neighbours.

    Args:
        blocks: See the module.
        x: See the module.
        grid: See the module.
        outliers: Share of the patches that are replaced. Defaults to 0.05, the paper's 10 of 196.
        neighbours: Of the local outlier factor (Breunig et al. 2000). Defaults to 20.
        before: The block whose similarity adjusts the last block's input and attention, as a share of the depth.
            Defaults to 0.75, the paper's 9 of 12.
        after: The block whose similarity adjusts the result, likewise. Defaults to 1/3, the paper's 4.
        levels: First and last block of the sum, likewise. Defaults to (1/3, 5/6), the paper's 4 to 10.
        threshold: Cosine below which patches are not similar. Defaults to 0.4, the paper's.
    """
    count, last_but_one = grid[0] * grid[1], _depth(blocks, 'self_calibrated') - 1
    first, final, mid, early = (
        min(max(1, round(share * len(blocks))), last_but_one) for share in (*levels, before, after)
    )
    similarities, total = {}, torch.zeros_like(x)
    for index, block in enumerate(blocks[:-1], start=1):
        x = block(x)
        if first <= index <= final:
            total = total + x
        if index in (mid, early):
            similarities[index] = similarity_of_patches(x[:, -count:], threshold)  # (B, N, N)
    middle = similarities[mid]
    patches = repair_outliers(x[:, -count:], grid, outliers, neighbours)
    patches = mean_of_similar(middle, patches)
    guide = middle.softmax(-1).unsqueeze(1)  # (B, 1, N, N)
    with gathered(blocks[-1]) as last:
        read: Any = 0.0
        for tokens in (patches, total[:, -count:]):
            _, k, v = last.heads(tokens)
            weights = scores(k, k).softmax(-1) + guide
            read = read + last.project(joined(weights.to(v.dtype) @ v))  # (B, N, C)
    return mean_of_similar(similarities[early], read)


def _depth(blocks: Blocks, name: str) -> int:
    if len(blocks) < 2:
        raise ValueError(f"read_out={name!r} reads blocks before the last, and the tower has 1: take 'naclip', say.")
    return len(blocks)


def _run(blocks: Blocks, x: Tensor) -> Tensor:
    """The output of some blocks, one after the other."""
    for block in blocks:
        x = block(x)
    return x


def _self_self(blocks: Blocks, x: Tensor, grid: Grid, part: int) -> Tensor:
    return _attention_alone(blocks, x, grid, lambda tokens, seen, apart: scores(tokens[part], seen[part]).softmax(-1))


def _attention_alone(blocks: Blocks, x: Tensor, grid: Grid, weigh: Weigh) -> Tensor:
    """The last block without residual and feed-forward network."""
    x = _run(blocks[:-1], x)
    with gathered(blocks[-1]) as last:
        return _patches(last.project(joined(attend(last, x, grid, weigh))), grid)


def _whole_block(last: ReadableBlock, x: Tensor, attended: Tensor, grid: Grid) -> Tensor:
    """The last block on x (B, T, C) with what its attention gives, (B, H, T, d)."""
    return _patches(last.feed_forward(x + last.project(joined(attended))), grid)


def _patches(x: Tensor, grid: Grid) -> Tensor:
    """Tokens (B, E + N, C) without those that are no patch: (B, N, C)."""
    return x[:, x.shape[1] - grid[0] * grid[1] :]
