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


def codeword_cross_entropy_of_all_pairs(
    student: Tensor, teacher: Tensor, center: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """:func:`codeword_cross_entropy` of every student view with every teacher view of its image, mean over all.

    Args:
        student: Similarities to the K codewords, (B, n, K).
        teacher: The teacher's, (B, G, K).
        center: As there.
        student_temperature: As there.
        teacher_temperature: As there.

    Returns:
        Scalar.
    """
    assignment = ((teacher.detach().float() - center) / teacher_temperature).softmax(dim=-1)
    log_probability = (student.float() / student_temperature).log_softmax(dim=-1)
    # A product of matrices, because the (B, n, G, K) terms of 8 x 2 views and 65,536 codewords are gigabytes.
    with torch.autocast(student.device.type, enabled=False):
        return -(log_probability @ assignment.transpose(1, 2)).mean()


@MODELS.register_module()
class CodewordLoss(nn.Module):
    """Distillation through soft codewords, the form of the CVPR version, the unstated as in DINO and iBOT.

    The assignment sharpens itself: the student learns the teacher's distribution at a higher temperature, and the
    teacher follows. Two things keep the loss at log K instead: a teacher temperature near the student's, and a teacher
    that follows too slowly for the length of the run. The default temperature is DINO's, 0.04 throughout ("try
    decreasing it if the training loss does not decrease"); iBOT's patches go from 0.04 to 0.07, which needs long runs.
    The teacher's time constant, 1 / (1 - momentum) steps, should be a small share of the run: 0.999 is 1 % of
    MaskCLIP's 91,000 steps, but all of a run of 1,000.

    The centre follows the mean over the global batch of each optimizer step, and moves after the step, so that
    accumulation and several processes give what one big batch gives.

    Args:
        num_prototypes: Number of codewords K. Defaults to 8192.
        student_temperature: Defaults to 0.1.
        teacher_temperature: Number, or a ramp over the run: ``dict(begin=0.04, end=0.07, stop=0.1)`` is iBOT's.
            Defaults to 0.04.
        center_momentum: Momentum of the centre per optimizer step. Defaults to 0.9.
    """

    center: Tensor
    pending: Tensor

    def __init__(
        self,
        num_prototypes: int = 8192,
        student_temperature: float = 0.1,
        teacher_temperature: float | dict = 0.04,
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
        self._remember(target)
        return codeword_cross_entropy(
            prediction, target, self.center, self.student_temperature, self.teacher_temperature(progress)
        )

    def all_pairs(self, prediction: Tensor, target: Tensor, progress: float) -> Tensor:
        """Scalar loss of n student views (B, n, K) against each of G teacher views (B, G, K) of the same images."""
        self._remember(target)
        return codeword_cross_entropy_of_all_pairs(
            prediction, target, self.center, self.student_temperature, self.teacher_temperature(progress)
        )

    def _remember(self, target: Tensor) -> None:
        if self.training:
            rows = target.detach().float().reshape(-1, target.shape[-1])
            self.pending[:-1] += rows.sum(dim=0)
            self.pending[-1] += len(rows)

    @torch.no_grad()
    def after_optimizer_step(self) -> None:
        """Move the centre towards the mean similarity of this step's tokens on all processes, if there were any."""
        if dist.is_initialized():
            dist.all_reduce(self.pending)
        count = self.pending[-1]
        # A step without tokens (an objective that starts late) would give 0 / 0; asking on the host would wait.
        share = (1 - self.center_momentum) * (count > 0)
        self.center.lerp_(self.pending[:-1] / count.clamp(min=1), share)
        self.pending.zero_()
