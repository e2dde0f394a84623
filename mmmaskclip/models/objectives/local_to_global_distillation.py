"""SILC: from a small crop, predict what a teacher sees in a large one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmmaskclip.contracts import Views
from mmmaskclip.models.objectives.base import Objective
from mmmaskclip.models.objectives.teacher import MomentumCopy
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class LocalToGlobalDistillation(Objective):
    """Self-distillation from global to local crops (Naeem et al. 2023, SILC, section 3.2; DINO's loss).

    The image embedding of every local crop by the student, and that of every global crop by the EMA teacher, are
    assigned to codewords by a head; each local crop is to predict the assignment of each global crop of its image.
    Unlike in DINO, the student's global crops predict nothing: they are contrasted with the text (list them in
    :class:`ImageTextContrast`'s ``views``), without which the two objectives diverge (SILC).

    How fast teacher and target head follow is the pretrainer's ``teacher_momentum``; SILC's is fixed, because one that
    approaches 1 keeps what the text teaches late in the run from the teacher.

    Args:
        head: Config of the head on the image embedding (``PrototypeHead``); the target's is an EMA copy of it.
        loss: Config of the loss, ``CodewordLoss`` with the head's number of codewords.
        global_views: The views that the teacher sees. Defaults to ``image`` and ``image_2``.
        local_views: The views that the student sees, each of one or several crops per image. Defaults to ``local``.
        weight: Weight of the loss. Defaults to 1.

    Raises:
        ValueError: If there is no global or no local view.
    """

    per_sample = True
    needs_teacher = True
    needs_teacher_embedding = True

    def __init__(
        self,
        head: dict,
        loss: dict,
        global_views: Sequence[str] = ('image', 'image_2'),
        local_views: Sequence[str] = ('local',),
        weight: float | dict = 1.0,
    ):
        super().__init__(weight)
        if not global_views or not local_views:
            raise ValueError(
                f'global_views={global_views!r}, local_views={local_views!r}: name at least one view in each'
            )
        self.global_views = tuple(global_views)
        self.local_views = tuple(local_views)
        self.head = MODELS.build(head)
        self.target_head = MomentumCopy(self.head)
        self.loss = MODELS.build(loss)

    def forward(self, views: Views) -> dict[str, Tensor]:
        with torch.no_grad():
            embeddings = [views.teacher_projected_image(view) for view in self.global_views]
            target = self.target_head(torch.stack(embeddings, dim=1))  # (B, m, K)
        # Crops lie image by image, so that those of one image are one row: (B, n of the view, D).
        crops = [views.projected_image(view).unflatten(0, (len(embeddings[0]), -1)) for view in self.local_views]
        predicted = self.head(torch.cat(crops, dim=1))  # (B, n, K)
        return {'loss': self.loss.all_pairs(predicted, target)}
