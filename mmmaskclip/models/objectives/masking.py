"""Which patches of an image are hidden from the student."""

import math

import torch
from torch import Tensor

from mmmaskclip.contracts import Mask
from mmmaskclip.models.objectives.noise import IMAGE_MASK_STREAM, sample_noise
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class RandomMask:
    """Hide patches chosen uniformly at random (He et al. 2022; MaskCLIP section 3.2).

    Args:
        ratio: Share of patches to hide, in (0, 1). Defaults to 0.75, the papers' value.

    Raises:
        ValueError: If ``ratio`` is not inside (0, 1), or so extreme that no patch is visible or none is hidden.
    """

    def __init__(self, ratio: float = 0.75):
        self.ratio = _checked(ratio)

    def __call__(self, seeds: Tensor, grid: tuple[int, int]) -> Mask:
        """Split the patches of a grid into visible and masked ones.

        Args:
            seeds: One seed per image, int64 (B,).
            grid: Rows and columns of patches.
        """
        num_patches = grid[0] * grid[1]
        num_visible = _num_visible(num_patches, self.ratio)
        order = sample_noise(seeds, num_patches, IMAGE_MASK_STREAM).argsort(dim=1, stable=True)  # (B, N)
        return Mask(visible=order[:, :num_visible], masked=order[:, num_visible:])


@MODELS.register_module()
class BlockMask:
    """Hide rectangles of patches (Bao et al. 2022, BEiT, algorithm 1), the same number of patches in every image.

    BEiT draws rectangles one after the other on the host until enough patches are hidden. Here all rectangles come from
    the sample's noise at once, on the device. Patches are hidden rectangle by rectangle; of the rectangle that would
    hide too many, random patches are. If all rectangles together hide too few (a ratio near 1), random patches are
    added.

    Args:
        ratio: Share of patches to hide, in (0, 1). Defaults to 0.4, BEiT's.
        min_patches: Least area of a rectangle in patches; at most as many as are hidden. Defaults to 16, BEiT's.
        min_aspect: Least ratio of its sides, in (0, 1]; the largest is its inverse. Defaults to 0.3, BEiT's.

    Raises:
        ValueError: If an argument is out of its range, or ``ratio`` so extreme that no patch is visible or none hidden.
    """

    # On BEiT's grid three or four suffice; the rest costs less than another launch.
    num_rectangles = 32

    def __init__(self, ratio: float = 0.4, min_patches: int = 16, min_aspect: float = 0.3):
        self.ratio = _checked(ratio)
        if min_patches < 1:
            raise ValueError(f'min_patches={min_patches}: a rectangle has at least 1 patch')
        if not 0 < min_aspect <= 1:
            raise ValueError(f'min_aspect={min_aspect}: the least ratio of the sides lies in (0, 1], e.g. 0.3')
        self.min_patches = min_patches
        self.min_aspect = min_aspect

    def __call__(self, seeds: Tensor, grid: tuple[int, int]) -> Mask:
        """Split the patches of a grid into visible and masked ones.

        Args:
            seeds: One seed per image, int64 (B,).
            grid: Rows and columns of patches.
        """
        num_patches = grid[0] * grid[1]
        num_masked = num_patches - _num_visible(num_patches, self.ratio)
        # One draw, because the numbers of a second one would be the same.
        noise = sample_noise(seeds, 4 * self.num_rectangles + num_patches, IMAGE_MASK_STREAM)
        rectangles, ties = noise.split((4 * self.num_rectangles, num_patches), 1)  # (B, 4 R) and (B, N)
        covered = self._covered(rectangles.unflatten(1, (4, self.num_rectangles)), grid, num_masked)  # (B, R, N)
        number = torch.arange(self.num_rectangles, device=ties.device).view(1, -1, 1)  # (1, R, 1)
        first = torch.where(covered, number, self.num_rectangles).amin(dim=1)  # (B, N)
        order = (first + ties).argsort(dim=1, stable=True)
        return Mask(visible=order[:, num_masked:], masked=order[:, :num_masked])

    def _covered(self, noise: Tensor, grid: tuple[int, int], num_masked: int) -> Tensor:
        """Which patches each of the R rectangles covers, (B, R, N), from noise (B, 4, R)."""
        rows, columns = grid
        least = min(self.min_patches, num_masked)
        area = least + noise[:, 0] * (num_masked - least)
        # Uniform in the logarithm between the least aspect and its inverse.
        aspect = torch.exp((2 * noise[:, 1] - 1) * math.log(1 / self.min_aspect))
        height = (area * aspect).sqrt().round().clamp(1, rows)
        width = (area / aspect).sqrt().round().clamp(1, columns)
        top = (noise[:, 2] * (rows - height + 1)).floor()
        left = (noise[:, 3] * (columns - width + 1)).floor()
        in_rows = _between(top, height, rows)  # (B, R, rows)
        in_columns = _between(left, width, columns)  # (B, R, columns)
        return (in_rows.unsqueeze(-1) & in_columns.unsqueeze(-2)).flatten(2)


def _between(begin: Tensor, length: Tensor, count: int) -> Tensor:
    """Which of the indices below ``count`` lie in [begin, begin + length): (..., count) for (...)."""
    index = torch.arange(count, device=begin.device)
    return (index >= begin.unsqueeze(-1)) & (index < (begin + length).unsqueeze(-1))


def _checked(ratio: float) -> float:
    if not 0 < ratio < 1:
        raise ValueError(f'ratio={ratio}: the share of hidden patches must lie between 0 and 1, e.g. 0.75')
    return ratio


def _num_visible(num_patches: int, ratio: float) -> int:
    num_visible = int(num_patches * (1 - ratio))
    if not 0 < num_visible < num_patches:
        raise ValueError(f'ratio={ratio} leaves {num_visible} of {num_patches} patches visible')
    return num_visible
