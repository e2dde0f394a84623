"""CLIPSelf: the student's features of a region match the teacher's embedding of the region's crop."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from mmmaskclip.contracts import Views, patch_part
from mmmaskclip.models.objectives.base import Objective
from mmmaskclip.models.objectives.noise import REGION_STREAM
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class RegionCropDistillation(Objective):
    """Match the mean of the patches of a region with the image embedding of the region's crop.

    Wu et al., "CLIPSelf", ICLR 2024, section 3.2: the image is cut into a random grid of m x n regions, each a crop of
    its own for the teacher; the loss is ``1 - cos`` between the region's features, pooled by RoIAlign from the
    student's projected patches, and the teacher's embedding of the crop. With ``teacher_momentum=1.0`` the teacher is
    the model that the run started from.

    Unlike the paper, each image draws its own grid, and ``num_regions`` of the grid's cells, with repetition: every
    image then costs the same, and its regions depend on its seed alone.

    Args:
        num_regions: Regions per image. Defaults to 4.
        max_grid: Largest number of rows, and of columns, of the grid. Defaults to 6, the paper's.
        crop_size: Side of the crops in pixels, which the teacher sees. Defaults to None: the image's height.
        weight: Weight of the loss. Defaults to 1.

    Raises:
        ValueError: If ``num_regions`` or ``max_grid`` is below 1, or ``crop_size`` is not positive.
    """

    per_sample = True
    needs_patches = True
    needs_teacher = True
    needs_teacher_embedding = True

    def __init__(
        self, num_regions: int = 4, max_grid: int = 6, crop_size: int | None = None, weight: float | dict = 1.0
    ):
        super().__init__(weight)
        for name, value in dict(num_regions=num_regions, max_grid=max_grid, crop_size=crop_size).items():
            if value is not None and value < 1:
                raise ValueError(f'{name}={value}: give a positive number')
        self.num_regions = num_regions
        self.max_grid = max_grid
        self.crop_size = crop_size

    def forward(self, views: Views) -> dict[str, Tensor]:
        images = views.images()  # (B, 3, H, W)
        boxes = self._regions(views.noise(2 + self.num_regions, REGION_STREAM), images.shape[-2:])  # (B * R, 5)
        size = self.crop_size or images.shape[-2]
        with torch.no_grad():
            crops = _align(images, boxes, (size, size), scale=1.0)  # (B * R, 3, S, S)
            targets = F.normalize(views.teacher_embedding(crops).float(), dim=-1)  # (B * R, D)
        rows, columns = views.grid()
        maps = views.projected_patches().transpose(1, 2).unflatten(2, (rows, columns))  # (B, D, rows, columns)
        # A patch tower's grid has the image's proportions, so one factor serves both axes.
        pooled = _align(maps, boxes, (1, 1), scale=rows / images.shape[-2]).flatten(1)  # (B * R, D)
        targets = patch_part(targets, pooled.shape[-1])
        return {'loss': (1 - (F.normalize(pooled, dim=-1) * targets).sum(dim=-1)).mean()}

    def _regions(self, noise: Tensor, size: torch.Size) -> Tensor:
        """Boxes as RoIAlign takes them, float32 (B * R, 5): number of the image, left, top, right, bottom in pixels.

        Args:
            noise: Uniform numbers (B, 2 + R): for the grid's rows and columns, and for each region's cell.
            size: Height and width of the images in pixels.
        """
        rows, columns = (noise[:, :2] * self.max_grid).floor().add(1).unbind(dim=1)  # (B,) each
        cells = (noise[:, 2:] * (rows * columns)[:, None]).floor()  # (B, R)
        row, column = torch.div(cells, columns[:, None], rounding_mode='floor'), cells % columns[:, None]
        height, width = (size[0] / rows)[:, None], (size[1] / columns)[:, None]
        number = torch.arange(len(noise), device=noise.device)[:, None].expand_as(cells)
        corners = (number, column * width, row * height, (column + 1) * width, (row + 1) * height)
        return torch.stack(corners, dim=-1).flatten(0, 1)


def _align(maps: Tensor, boxes: Tensor, size: tuple[int, int], scale: float) -> Tensor:
    """RoIAlign in float32, because its kernels have no bfloat16; boxes in units of 1 / ``scale`` cells of the maps."""
    with torch.autocast(maps.device.type, enabled=False):
        return roi_align(maps.float(), boxes, size, spatial_scale=scale, aligned=True)
