"""Refinement of segmentation maps by the pixels themselves, without anything learned."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def pamr(images: Tensor, maps: Tensor, iterations: int = 10, dilations: Sequence[int] = (8, 16)) -> Tensor:
    """Pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020, section 3.3).

    A pixel's scores become the mean of its neighbours', weighted by the softmax over the neighbours j of the mean over
    the colours of -|I(i) - I(j)| / (0.1 std(i)), where std is that of the pixel and its neighbours. Neighbours are the
    eight pixels around it, at every dilation; at the border the edge is repeated. TCL and NACLIP refine by 10
    iterations with the dilations 8 and 16.

    Args:
        images: (B, 3, H, W), in any normalization.
        maps: (B, K, h, w), upsampled to the images' size first where they are smaller.
        iterations: How often the maps are averaged. Defaults to 10.
        dilations: Distances of the neighbours in pixels. Defaults to (8, 16).

    Returns:
        (B, K, H, W), float32.

    Raises:
        ValueError: If ``dilations`` is empty or ``iterations`` is below 1.
    """
    if not len(dilations) or iterations < 1:
        raise ValueError(f'iterations={iterations}, dilations={dilations!r}: give at least one of each')
    if maps.shape[2:] != images.shape[2:]:
        maps = F.interpolate(maps, size=images.shape[2:], mode='bilinear', align_corners=False)
    images, maps = images.float(), maps.float()
    around = _neighbours(images, dilations)  # (B, 3, 8 D, H, W)
    # The pixel itself belongs to its neighbourhood.
    deviation = torch.cat((images.unsqueeze(2), around), dim=2).std(2, keepdim=True)
    likeness = -((images.unsqueeze(2) - around).abs() / (1e-8 + 0.1 * deviation)).mean(1, keepdim=True)
    weights = likeness.softmax(2)  # (B, 1, 8 D, H, W)
    for _ in range(iterations):
        # One class after the other: the neighbours of 150 maps would need gigabytes.
        maps = torch.cat([(_neighbours(one, dilations) * weights).sum(2) for one in maps.split(1, dim=1)], dim=1)
    return maps


def _neighbours(values: Tensor, dilations: Sequence[int]) -> Tensor:
    """The eight pixels around every pixel of (B, C, H, W), at every dilation: (B, C, 8 D, H, W)."""
    height, width = values.shape[2:]
    found = []
    for step in dilations:
        padded = F.pad(values, (step,) * 4, mode='replicate')
        found += [
            padded[..., step + dy * step :, step + dx * step :][..., :height, :width]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if dy or dx
        ]
    return torch.stack(found, dim=2)
