"""The student's output says of every patch what a read-out of the teacher says of it."""

from torch import Tensor
from torch.nn import functional as F

from mmmaskclip.contracts import Views
from mmmaskclip.models.backbones.read_outs import ReadOut, find_read_out
from mmmaskclip.models.objectives.base import Objective
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class ReadOutDistillation(Objective):
    """Match the student's patches with the teacher's under another read-out, in the space of the captions.

    A read-out such as ``'value'`` (Zhou et al., "Extract Free Dense Labels from CLIP", ECCV 2022) tells what is at a
    patch better than the tower's output does, which the pretraining of a tower with a class token never looked at. The
    loss is ``1 - cos`` of the two, mean over patches, so that the output learns what the read-out knows. Images alone
    are enough. The objective is ours.

    It costs a pass of the teacher, a second one beside ``PreserveGlobal``; the student's pass is the one that other
    objectives share. With ``teacher_momentum=1.0`` the teacher is the model that the run started from.

    Args:
        read_out: The teacher's, see :mod:`~mmmaskclip.models.backbones.read_outs`. Defaults to ``'value'``.
        weight: Weight of the loss. Defaults to 1.

    Raises:
        ValueError: If ``read_out`` or one of its options is unknown.
    """

    per_sample = True
    needs_patches = True
    needs_teacher = True
    needs_teacher_embedding = True

    def __init__(self, read_out: ReadOut = 'value', weight: float | dict = 1.0):
        super().__init__(weight)
        find_read_out(read_out)
        self.read_out = read_out

    def forward(self, views: Views) -> dict[str, Tensor]:
        patches = views.projected_patches().float()  # (B, N, D)
        target = views.teacher_read_out(self.read_out).float()  # (B, N, D)
        return {'loss': (1 - F.cosine_similarity(patches, target, dim=-1)).mean()}
