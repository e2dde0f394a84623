"""Which patches of an image are hidden from the student."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmmaskclip.registry import MODELS


@dataclass(frozen=True)
class Mask:
    """Patch indices of one batch, every image with the same number of each.

    Attributes:
        visible: Kept patches, (B, K).
        masked: Hidden patches, (B, M); visible and masked together are all N patches.
    """

    visible: Tensor
    masked: Tensor

    @property
    def restore(self) -> Tensor:
        """Indices (B, N) that bring tokens in the order (visible, masked) back to patch order (MAE's ids_restore)."""
        return torch.cat((self.visible, self.masked), dim=1).argsort(dim=1)


@MODELS.register_module()
class RandomMask:
    """Hide patches chosen uniformly at random (He et al. 2022; MaskCLIP section 3.2).

    Args:
        ratio: Share of patches to hide, in (0, 1). Defaults to 0.75, the papers' value.

    Raises:
        ValueError: If ``ratio`` is not inside (0, 1), or so extreme that no patch is visible or none is hidden.
    """

    def __init__(self, ratio: float = 0.75):
        if not 0 < ratio < 1:
            raise ValueError(f'ratio={ratio}: the share of hidden patches must lie between 0 and 1, e.g. 0.75')
        self.ratio = ratio

    def __call__(self, draw: Callable[[int], Tensor], grid: tuple[int, int]) -> Mask:
        """Split the patches of a grid into visible and masked ones.

        Args:
            draw: Gives that many uniform random numbers in [0, 1) for each image, (B, count).
            grid: Rows and columns of patches.
        """
        num_patches = grid[0] * grid[1]
        num_visible = int(num_patches * (1 - self.ratio))
        if not 0 < num_visible < num_patches:
            raise ValueError(f'ratio={self.ratio} leaves {num_visible} of {num_patches} patches visible')
        order = draw(num_patches).argsort(dim=1, stable=True)
        return Mask(visible=order[:, :num_visible], masked=order[:, num_visible:])
