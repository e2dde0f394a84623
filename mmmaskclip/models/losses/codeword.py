"""Cross-entropy between soft codeword assignments."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from mmmaskclip.registry import MODELS
from mmmaskclip.utils.ramp import Ramp


def codeword_cross_entropy(
    student: Tensor, teacher: Tensor, center: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Cross-entropy of the student's codeword distribution under the teacher's, mean over tokens, in float32.

    Args:
        student: Similarities to the K codewords, (..., K).
        teacher: The teacher's, (..., K); no gradient flows into it.
        center: Running mean of the teacher's similarities, (K,), subtracted so that no codeword wins everywhere.
        student_temperature: Temperature of the student's softmax.
        teacher_temperature: Temperature of the teacher's softmax; lower is sharper.

    Returns:
        Scalar.
    """
    num_prototypes = student.shape[-1]
    assignment = ((teacher.detach().float() - center) / teacher_temperature).softmax(dim=-1)
    return F.cross_entropy(
        student.float().reshape(-1, num_prototypes) / student_temperature, assignment.reshape(-1, num_prototypes)
    )


@MODELS.register_module()
class CodewordLoss(nn.Module):
    """Distillation through soft codewords, the form of the CVPR version, with iBOT's unstated details.

    The centre follows the mean over the global batch of each optimizer step, and moves after the step, so that
    accumulation and several processes give what one big batch gives.

    Args:
        num_prototypes: Number of codewords K. Defaults to 8192.
        student_temperature: Defaults to 0.1.
        teacher_temperature: Number, or a ramp over the run. Defaults to 0.04 rising to 0.07 in the first tenth.
        center_momentum: Momentum of the centre per optimizer step. Defaults to 0.9.
    """

    center: Tensor
    pending: Tensor

    def __init__(
        self,
        num_prototypes: int = 8192,
        student_temperature: float = 0.1,
        teacher_temperature: float | dict = dict(begin=0.04, end=0.07, stop=0.1),  # noqa: B006 (read only)
        center_momentum: float = 0.9,
    ):
        super().__init__()
        self.student_temperature = student_temperature
        self.teacher_temperature = Ramp.of(teacher_temperature)
        self.center_momentum = center_momentum
        self.register_buffer('center', torch.zeros(num_prototypes))
        # Of the forward passes since the last optimizer step. A float count keeps both in one all-reduce.
        self.register_buffer('pending', torch.zeros(num_prototypes + 1), persistent=False)

    def forward(self, prediction: Tensor, target: Tensor, progress: float) -> Tensor:
        """Scalar loss of student similarities (B, M, K) against the teacher's, at a share ``progress`` of the run."""
        if self.training:
            rows = target.detach().float().reshape(-1, target.shape[-1])
            self.pending[:-1] += rows.sum(dim=0)
            self.pending[-1] += len(rows)
        return codeword_cross_entropy(
            prediction, target, self.center, self.student_temperature, self.teacher_temperature(progress)
        )

    @torch.no_grad()
    def after_optimizer_step(self) -> None:
        """Move the centre towards the mean similarity of this step's tokens on all processes."""
        if dist.is_initialized():
            dist.all_reduce(self.pending)
        self.center.lerp_(self.pending[:-1] / self.pending[-1], 1 - self.center_momentum)
        self.pending.zero_()
