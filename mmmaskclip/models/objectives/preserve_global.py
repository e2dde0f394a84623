"""Keep the image embedding where it was, while something else changes the patches."""

from torch import Tensor
from torch.nn import functional as F

from mmmaskclip.contracts import Views
from mmmaskclip.models.objectives.base import Objective
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class PreserveGlobal(Objective):
    """Hold the student's image embedding near the teacher's: ``1 - cos`` of the two, mean over images.

    With ``teacher_momentum=1.0`` the teacher is the model that the run started from. Tuning patches alone costs
    recognition: CLIPSelf's author answers so in that repository's issue 11 and proposes such a loss. The student's
    embedding is that of the pass that other objectives share, so it costs the teacher's pass alone.

    Args:
        weight: Weight of the loss. Defaults to 1.
    """

    per_sample = True
    needs_teacher = True
    needs_teacher_embedding = True

    def forward(self, views: Views) -> dict[str, Tensor]:
        start = F.normalize(views.teacher_projected_image().float(), dim=-1)  # (B, D)
        return {'loss': (1 - (views.image_embedding() * start).sum(dim=-1)).mean()}
