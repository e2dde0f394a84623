"""Loading one tower out of a checkpoint: the image tower of a pretraining run as the backbone of another model."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from mmengine.logging import print_log
from mmpretrain.models.backbones.vision_transformer import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor
from torch.nn import functional as F

from mmmaskclip.checkpoints.downloads import local_path
from mmmaskclip.checkpoints.safe_load import read_state_dict
from mmmaskclip.checkpoints.translate import format_of, translate_weights

# Without these a tower is not the file's; the rest are norms, positions and tokens that towers have or have not.
CORE = ('layers.', 'patch_embed.', 'pre_norm.')


@dataclass(frozen=True)
class LoadReport:
    """What came of loading.

    Attributes:
        loaded: Names of the tower's parameters that were taken from the file.
        missing: Names of the tower that the file lacks; these parameters are as they were before.
        surplus: Names under the prefix that the tower lacks.
        resized: The patch grids (rows, columns) of the positions in the file and in the tower where they differ.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    resized: tuple[tuple[int, int], tuple[int, int]] | None


def load_image_tower(
    tower: VisionTransformer,
    path: str | os.PathLike,
    prefix: str | None = 'image_encoder.',
    grid: tuple[int, int] | None = None,
) -> LoadReport:
    """Load an image tower from a checkpoint that holds it under a prefix; the log gets one report.

    Positions are resized to the tower's patch grid, with their class token's entry dropped or kept as the tower needs.
    Weights of other CLIPs (see :func:`~mmmaskclip.checkpoints.weights.load_weights`) are translated first.

    Args:
        tower: A :class:`~mmmaskclip.models.CLIPVisionTransformer`, changed in place.
        path: Checkpoint; nothing in it is executed.
        prefix: What the tower's names begin with in the file, with or without the last dot. None: the file is of the
            tower alone. Defaults to ``'image_encoder.'``, as in our pretraining checkpoints.
        grid: Patch grid (rows, columns) of the positions in the file. Defaults to a square.

    Returns:
        Names loaded, missing and surplus.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, nothing in it is of the tower, part of its blocks or patch embedding is
            missing, a shape differs, or the patch grid is unknown.
    """
    path = local_path(path)
    read = read_state_dict(path)
    everything = translate_weights(tower, read, path)
    prefix = f'{prefix.removesuffix(".")}.' if prefix else ''
    state_dict = {name.removeprefix(prefix): value for name, value in everything.items() if name.startswith(prefix)}
    own = tower.state_dict()
    loaded = tuple(name for name in own if name in state_dict)
    if not loaded:
        raise ValueError(_nothing_loads(tower, path, prefix, everything, own))
    # A file of another architecture can share a few names; a file of a shallower tower lacks some blocks.
    absent = [name for name in own if name not in state_dict and name.startswith(CORE)]
    if absent:
        raise ValueError(
            f'{os.fspath(path)!r} has only {len(loaded)} of the {len(own)} tensors of {type(tower).__name__}: '
            f'{some(absent, 3)} are missing and would stay random. Give the backbone the arch of the file, or set '
            'init_cfg.prefix to where the tower is.'
        )
    resized = None
    if 'pos_embed' in loaded:
        grid = _source_grid(state_dict, tower.patch_resolution, grid, path)
        state_dict['pos_embed'] = fit_positions(
            tower, state_dict['pos_embed'], 'cls_token' in state_dict, grid, antialias=format_of(read) == 'open_clip'
        )
        resized = (grid, tuple(tower.patch_resolution)) if grid != tuple(tower.patch_resolution) else None
    if differing := [
        f'{name} is {tuple(state_dict[name].shape)}, not {tuple(own[name].shape)}'
        for name in loaded
        if state_dict[name].shape != own[name].shape
    ]:
        raise ValueError(
            f'{os.fspath(path)!r} does not fit {type(tower).__name__} as configured: {some(differing, 3)}. Give the '
            "backbone the pretraining config's arch and patch size."
        )
    tower.load_state_dict({name: state_dict[name] for name in loaded}, strict=False)
    report = LoadReport(
        loaded,
        missing=tuple(name for name in own if name not in state_dict),
        surplus=tuple(name for name in state_dict if name not in own),
        resized=resized,
    )
    _log(report, path, prefix)
    return report


def fit_positions(
    tower: VisionTransformer, pos_embed: Tensor, has_cls: bool, grid: tuple[int, int], antialias: bool = False
) -> Tensor:
    """Resize positions to a tower's patch grid, with the class token's entry if the tower has that token.

    mmpretrain's function assumes a square source and fails where size and class token change together.

    Libraries differ in the filter: mmpretrain, timm and transformers interpolate bicubically without antialiasing,
    OpenCLIP with it. The results differ by 1.4 % of the table's norm on a smooth table and by more on a rough one.
    Therefore each file's positions are resized as its own library does.

    Args:
        tower: The tower.
        pos_embed: Positions, (1, N, C) or (1, 1 + N, C).
        has_cls: Whether the first entry is the class token's. If it is not, a tower with that token keeps its entry.
        grid: Source grid (rows, columns) of the N patches.
        antialias: Interpolate with an antialiasing filter, as OpenCLIP does. Defaults to False.

    Returns:
        Positions in the shape of ``tower.pos_embed``.
    """
    patches, size = pos_embed[:, int(has_cls) :], tuple(tower.patch_resolution)
    if antialias and grid != size:
        table = patches.float().unflatten(1, grid).permute(0, 3, 1, 2)  # (1, N, C) -> (1, C, rows, columns)
        table = F.interpolate(table, size, mode=tower.interpolate_mode, antialias=True, align_corners=False)
        patches = table.flatten(2).transpose(1, 2).to(patches.dtype)  # (1, rows * columns, C)
    else:
        patches = resize_pos_embed(patches, grid, size, tower.interpolate_mode, num_extra_tokens=0)
    if not tower.num_extra_tokens:
        return patches
    cls = pos_embed[:, :1] if has_cls else tower.pos_embed.detach()[:, :1].to(patches)
    return torch.cat((cls, patches), dim=1)


def square_grid(num_patches: int) -> tuple[int, int] | None:
    """The square grid (rows, columns) of a number of patches, or None."""
    side = math.isqrt(num_patches)
    return (side, side) if side * side == num_patches else None


def _source_grid(
    state_dict: dict[str, Tensor], own: Iterable[int], said: tuple[int, int] | None, path: str | os.PathLike
) -> tuple[int, int]:
    """The grid of the file's positions. A number that is no square, or that two grids fit, is never guessed at."""
    num_patches = state_dict['pos_embed'].shape[1] - ('cls_token' in state_dict)
    rows, columns = own
    candidates = {(rows, columns)} if rows * columns == num_patches else set()
    candidates |= {square} if (square := square_grid(num_patches)) else set()
    if said is not None:
        if math.prod(said) != num_patches:
            raise ValueError(
                f'grid={tuple(said)} is not of the {num_patches} patch positions in {os.fspath(path)!r}; give the '
                '(rows, columns) of its pretraining.'
            )
        return (said[0], said[1])
    if len(candidates) != 1:
        raise ValueError(
            f'{os.fspath(path)!r} has {num_patches} patch positions, which '
            f'{"may be of the grids " + " or ".join(map(str, sorted(candidates))) if candidates else "are no square"}: '
            'say which with init_cfg.grid=(rows, columns).'
        )
    return candidates.pop()


def _nothing_loads(
    tower: VisionTransformer, path: str | os.PathLike, prefix: str, everything: Iterable[str], own: Iterable[str]
) -> str:
    names = list(everything)
    starts = dict.fromkeys(f'{name.split(".")[0]}.' for name in names if '.' in name)
    under = [name for name in names if name.startswith(prefix)]
    found = f'has {some(under, 3)}' if under else f'has no name that begins so, but {some(names, 3)}'
    return (
        f'Nothing in {os.fspath(path)!r} is of {type(tower).__name__}: under the prefix {prefix!r} the file {found}, '
        f'where the tower has {some(list(own), 3)}. Set init_cfg.prefix to one of {list(starts)[:10]} (None for a '
        'file of the tower alone), or init_cfg=None to start from random weights.'
    )


def _log(report: LoadReport, path: str | os.PathLike, prefix: str) -> None:
    total = len(report.loaded) + len(report.missing)
    lines = [f'Image tower: {len(report.loaded)} of {total} tensors loaded from {os.fspath(path)!r} under {prefix!r}.']
    if report.resized:
        (rows, columns), (new_rows, new_columns) = report.resized
        lines.append(f'Positions resized from {rows} x {columns} to {new_rows} x {new_columns} patches.')
    if report.missing:
        lines.append(f'Missing, so as initialized: {", ".join(report.missing)}.')
    if report.surplus:
        lines.append(f'Surplus, so not used: {", ".join(report.surplus)}.')
    print_log(' '.join(lines), logger='current', level=logging.WARNING if report.missing else logging.INFO)


def some(names: Sequence[str], count: int) -> str:
    """The first ``count`` names, and three dots if there are more."""
    return ', '.join(names[:count]) + (', ...' if len(names) > count else '')
