"""Keep the image embedding in place while another objective changes the patches."""

from torch import Tensor
from torch.nn import functional as F

from mmmaskclip.contracts import Views
from mmmaskclip.models.objectives.base import Objective
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class PreserveGlobal(Objective):
    """Hold the student's image embedding near the teacher's: ``1 - cos`` of the two, mean over images.

    With ``teacher_momentum=1.0`` the teacher is the model that the run started from. Tuning patches alone costs
    recognition; CLIPSelf's author says so in issue 11 of that repository and proposes such a loss. The student's
    embedding comes from the pass that other objectives share, so the only extra cost is the teacher's pass.

    Args:
        weight: Weight of the loss. Defaults to 1.
    """

    per_sample = True
    needs_teacher = True
    needs_teacher_embedding = True

    def forward(self, views: Views) -> dict[str, Tensor]:
        start = F.normalize(views.teacher_projected_image().float(), dim=-1)  # (B, D)
        return {'loss': (1 - (views.image_embedding() * start).sum(dim=-1)).mean()}
