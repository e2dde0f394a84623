"""PH-Reg: new registers learn to take up what moving the image around averages away."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mmmaskclip.contracts import ImageTower, Views
from mmmaskclip.models.objectives.base import Objective
from mmmaskclip.models.objectives.noise import SHIFT_STREAM
from mmmaskclip.models.objectives.targets import FrozenEncoder
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class DenoisedDistillation(Objective):
    """Match the student's patches with the teacher's, averaged over shifted and mirrored copies of the image.

    Chen et al., "Vision Transformers with Self-Distilled Registers" (PH-Reg), NeurIPS 2025: artifacts of a tower stay
    where they are when the image moves, so that the mean over moved copies, moved back, has less of them. The student
    is the same tower with new registers (``image_encoder.num_registers``), the teacher the tower without them. The loss
    is ``1 - cos`` plus the mean squared error, mean over patches. Unlike the paper's, it has a second term, ``1 - cos``
    of the class tokens, so that the image embedding stays where it was.

    Args:
        frozen: Arguments of :class:`~.targets.FrozenEncoder`: the tower without registers and its weights,
            ``dict(encoder=dict(type=...), checkpoint='path')``.
        num_copies: Moved copies of each image, beside the image itself. Defaults to 10, the paper's number.
        max_shift: Largest shift in each direction, as a share of the side. Defaults to 0.15.
        weight: Weight of the loss. Defaults to 1.

    Raises:
        ValueError: If ``num_copies`` is below 1 or ``max_shift`` not in (0, 0.5).
    """

    per_sample = True
    needs_patches = True

    def __init__(self, frozen: dict, num_copies: int = 10, max_shift: float = 0.15, weight: float | dict = 1.0):
        super().__init__(weight)
        if num_copies < 1:
            raise ValueError(f'num_copies={num_copies}: give a positive number, e.g. 10')
        if not 0 < max_shift < 0.5:
            raise ValueError(f'max_shift={max_shift}: it is a share of the side, in (0, 0.5), e.g. 0.15')
        self.frozen = FrozenEncoder(**frozen)
        self.num_copies = num_copies
        self.max_shift = max_shift

    def forward(self, views: Views) -> dict[str, Tensor]:
        features = views.image_features()
        patches = features.patches.float()  # (B, N, C)
        noise = views.noise(3 * self.num_copies, SHIFT_STREAM).unflatten(1, (self.num_copies, 3))  # (B, copies, 3)
        with torch.no_grad():
            maps, cls = denoised_maps(self.frozen.encoder, views.images(), noise, self.max_shift)
        target = maps.flatten(2).transpose(1, 2)  # (B, N, C)
        distance = 1 - F.cosine_similarity(patches, target, dim=-1)  # (B, N)
        held = 1 - F.cosine_similarity(features.cls.float(), cls.float(), dim=-1)  # (B,)
        return {'patch_loss': distance.mean() + F.mse_loss(patches, target), 'cls_loss': held.mean()}


def denoised_maps(tower: ImageTower, images: Tensor, noise: Tensor, max_shift: float) -> tuple[Tensor, Tensor]:
    """Patch features averaged over an image and its moved copies, each moved back; and its class token.

    Args:
        tower: An image tower; the caller switches its gradient off.
        images: Normalized images, (B, 3, H, W).
        noise: Uniform numbers (B, copies, 3): shift to the right, shift down, mirrored if below one half.
        max_shift: Largest shift as a share of the side.

    Returns:
        Patches, float32 (B, C, rows, columns), and class token (B, C). A patch counts in those copies in which it stays
        inside the image.
    """
    total, cls = _maps(tower, images)  # (B, C, rows, columns), (B, C)
    count = torch.ones_like(total[:, :1])
    whole = torch.ones_like(images[:, :1], dtype=torch.float32)
    for copy in noise.unbind(dim=1):
        shift_x, shift_y, mirrored = copy.unbind(dim=1)  # (B,) each
        sign = torch.where(mirrored < 0.5, -1.0, 1.0)
        # In affine_grid's units a side is 2 long.
        shift_x, shift_y = (2 * max_shift * (2 * shift - 1) for shift in (shift_x, shift_y))
        maps, _ = _maps(tower, _move(images.float(), sign, shift_x, shift_y).to(images.dtype))
        # A patch with a pixel from beyond the edge is left out, in the copy and, bilinearly read, in the original.
        inside = _whole(F.adaptive_avg_pool2d(_move(whole, sign, shift_x, shift_y), (maps.shape[-2], maps.shape[-1])))
        # x' = sign x + shift, so x = sign x' - sign shift.
        back = (sign, -sign * shift_x, -shift_y)
        inside = _whole(_move(inside, *back))
        total = total + inside * _move(maps, *back)
        count = count + inside
    return total / count, cls


def _whole(shares: Tensor) -> Tensor:
    """1 where a share is 1 to rounding, else 0."""
    return (shares > 1 - 1e-4).float()


def _maps(tower: ImageTower, images: Tensor) -> tuple[Tensor, Tensor]:
    """Patch features as float32 maps (B, C, rows, columns), and the class token (B, C)."""
    embedded, grid = tower.embed(images)
    features = tower.encode(embedded)
    return features.patches.float().transpose(1, 2).unflatten(2, grid), features.cls


def _move(maps: Tensor, sign: Tensor, shift_x: Tensor, shift_y: Tensor) -> Tensor:
    """Read maps (B, C, h, w) at ``(sign x + shift_x, y + shift_y)``, per image (B,), bilinearly, zero outside."""
    zero, one = torch.zeros_like(sign), torch.ones_like(sign)
    rows = (torch.stack((sign, zero, shift_x), dim=1), torch.stack((zero, one, shift_y), dim=1))
    theta = torch.stack(rows, dim=1).to(maps.dtype)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, padding_mode='zeros', align_corners=False)
