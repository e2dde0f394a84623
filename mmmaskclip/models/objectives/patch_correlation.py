"""Gram anchoring: keeps the similarities between the patches of an image equal to those of a teacher."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mmmaskclip.contracts import Views
from mmmaskclip.models.objectives.base import Objective
from mmmaskclip.models.objectives.masked_self_distillation import patches_of_a_pass
from mmmaskclip.models.objectives.targets import FrozenEncoder
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class PatchCorrelation(Objective):
    """Compares the cosines between the patches of an image, of the student and of a teacher.

    The loss is the mean over all pairs (i, j) of patches of ``(<s_i, s_j> - <t_i, t_j>)^2``. Here s are the student's
    normalized patch features, and t the teacher's. It is the Gram objective of DINOv3 (Siméoni et al. 2025, section
    4.2), where the paper writes a sum in place of the mean. The loss never compares a student's feature with a
    teacher's. So the teacher may be a tower of another kind and width: DeCLIP (CVPR 2025) uses DINOv2.

    Args:
        frozen: Another tower as teacher, as arguments of :class:`~.targets.FrozenEncoder`:
            ``dict(encoder=dict(type=...), checkpoint='path')``. Its patches are resized to the student's grid,
            bilinearly. Defaults to None: the EMA teacher. With ``teacher_momentum=1.0`` that teacher never moves, and
            stays the model at the start of the run.
        teacher_image_size: Image side in pixels for the teacher's pass. A larger one gives smoother targets; DINOv3
            doubles it. Defaults to None: the side of the student's images.
        weight: Weight of the loss. Defaults to 1.
    """

    per_sample = True
    needs_patches = True

    def __init__(self, frozen: dict | None = None, teacher_image_size: int | None = None, weight: float | dict = 1.0):
        super().__init__(weight)
        self.needs_teacher = frozen is None
        self.frozen = None if frozen is None else FrozenEncoder(**frozen)
        self.teacher_image_size = teacher_image_size

    def forward(self, views: Views) -> dict[str, Tensor]:
        student = correlations(views.image_features().patches)  # (B, N, N)
        return {'loss': F.mse_loss(student, correlations(self._teacher(views)))}

    def _teacher(self, views: Views) -> Tensor:
        """The teacher's patches on the student's grid, (B, N, C'), without gradient."""
        if self.frozen is None and self.teacher_image_size is None:
            return views.teacher_features().patches
        tower = views.teacher_tower if self.frozen is None else self.frozen.encoder
        return patches_of_a_pass(views, tower, self.teacher_image_size)


def correlations(patches: Tensor) -> Tensor:
    """Cosines between the patches of each image: float32 (B, N, N), also under autocast, from features (B, N, C)."""
    with torch.autocast(patches.device.type, enabled=False):
        patches = F.normalize(patches.float(), dim=-1)
        return patches @ patches.transpose(1, 2)
