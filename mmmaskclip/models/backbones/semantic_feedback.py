"""ResCLIP's second pass: the segmentation of a first pass says which patches the last block attends to."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmmaskclip.models.backbones.last_block import Grid, cells


@dataclass(frozen=True)
class SemanticFeedback:
    """Settings of ResCLIP's semantic feedback refinement (Yang et al., CVPR 2025, section 3.3).

    Attributes:
        weight: Of the feedback beside the scores of keys. Defaults to 0.7; 0.6 or 0.7 in the released configs.
        gain: Factor of their sum. Defaults to 2; 1.8 to 2.2 in the released configs.
        std: Of the Gaussian that smooths the feedback, in patches. Defaults to 5, the released code's.
        threshold: Probability below which a pixel of the first pass counts as the first word. Defaults to 0.1; from 0.1
            to 0.5 in the released configs.
        scale: Inverse temperature of the softmax over words. Defaults to 40, the released code's.
        refinement: Options of PAMR for the first pass's maps, ``dict()`` for its defaults, the released code's.
            Defaults to None: no refinement.
        label: Gives the word (B, N) of every patch, of the first pass's patches (B, N, C) before the final norm.
            ``ZeroShotSegmentor`` sets it.
    """

    weight: float = 0.7
    gain: float = 2.0
    std: float = 5.0
    threshold: float = 0.1
    scale: float = 40.0
    refinement: Mapping[str, Any] | None = None
    label: Callable[[Tensor, Grid], Tensor] | None = None

    @classmethod
    def of(cls, settings: 'Mapping[str, Any] | SemanticFeedback') -> 'SemanticFeedback':
        """The settings of a config.

        Raises:
            ValueError: If one of them is unknown.
        """
        if isinstance(settings, SemanticFeedback):
            return settings
        known = [name for name in cls.__dataclass_fields__ if name != 'label']
        if unknown := [name for name in settings if name not in known]:
            raise ValueError(f'feedback has no setting {unknown[0]!r}: it has {", ".join(known)}')
        return cls(**settings)

    def mix(self, scores: Tensor, patches: Tensor, grid: Grid) -> Tensor:
        """Scores (B, H, T, T) of the last block for the second pass, after the first pass's patches (B, N, C).

        Raises:
            ValueError: If nothing labels the patches.
        """
        if self.label is None:
            raise ValueError(
                "read_out 'resclip' with feedback segments an image twice and needs the class names for it: set it in "
                'test_cfg.segmentor.read_out, or leave feedback out'
            )
        feedback = same_segment(self.label(patches, grid), grid, self.std)  # (B, N, N)
        extra = scores.shape[-1] - feedback.shape[-1]
        feedback = F.pad(feedback, (extra, 0, extra, 0)).unsqueeze(1)  # (B, 1, T, T)
        return self.gain * ((1 - self.weight) * scores + self.weight * feedback)


def same_segment(labels: Tensor, grid: Grid, std: float) -> Tensor:
    """How much patches belong to one segment, (B, N, N), at most 1.

    1 for patches of one label; times exp(-d / D), d their Chebyshev distance and D the largest of the grid, where the
    straight line between them leaves the label. Each row is then smoothed by a Gaussian along the patches in reading
    order, as the released code does it, and divided by its sum, and all of it by its largest number. The released code
    looks at the first d / D of each line, here all of it is looked at.

    Args:
        labels: int64 (B, N).
        grid: Rows and columns.
        std: Of the Gaussian, in patches.
    """
    places = cells(grid, labels.device)  # (N, 2)
    steps = places[None] - places[:, None]  # (N, N, 2)
    apart = steps.abs().amax(-1)  # (N, N)
    largest = max(grid) - 1
    of_label = labels[:, :, None] == labels[:, None]  # (B, N, N)
    straight = of_label
    for step in range(1, largest):
        # Beyond its end a line stays there.
        inside = (apart > step)[..., None]
        along = torch.where(inside, step * steps / apart.clamp(min=1)[..., None], steps)
        row, column = (places[:, None] + along).round().long().unbind(-1)  # (N, N) each
        straight = straight & (labels[:, row * grid[1] + column] == labels[:, :, None])
    decay = (-apart / max(largest, 1)).exp()
    same = torch.where(straight, 1.0, decay) * of_label  # (B, N, N)
    radius = min(len(places) // 2, math.floor(3 * std))
    offsets = torch.arange(-radius, radius + 1, device=labels.device)
    kernel = (-(offsets**2) / (2 * std**2)).exp()
    rows = F.conv1d(same.flatten(0, 1).unsqueeze(1), kernel.view(1, 1, -1), padding=radius).view_as(same)
    rows = rows / rows.sum(-1, keepdim=True)
    return rows / rows.amax((1, 2), keepdim=True)
