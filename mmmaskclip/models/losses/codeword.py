"""Cross-entropy between soft codeword assignments."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import FollowsRun
from mmmaskclip.registry import MODELS
from mmmaskclip.utils.ramp import Ramp


@MODELS.register_module()
class CodewordLoss(nn.Module, FollowsRun):
    """CVPR's codeword distillation, in float32. What the paper leaves open follows DINO and iBOT.

    Loss of a token: the cross-entropy of softmax(student / student temperature) under softmax((teacher - centre) /
    teacher temperature). The centre is a running mean of the teacher's similarities, so that no codeword wins
    everywhere.

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
        self.progress = 0.0
        self.register_buffer('center', torch.zeros(num_prototypes))
        # Sums of similarities since the last optimizer step, and their number: as a float, one all-reduce does both.
        self.register_buffer('pending', torch.zeros(num_prototypes + 1), persistent=False)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of the student's similarities (..., K) against the teacher's (..., K), the mean over tokens."""
        assignment = self._assign(target)
        logits = prediction.float() / self.student_temperature
        return F.cross_entropy(logits.flatten(0, -2), assignment.flatten(0, -2))

    def all_pairs(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of n student views (B, n, K) against each of m teacher views (B, m, K) of the same images."""
        assignment = self._assign(target)
        log_probability = (prediction.float() / self.student_temperature).log_softmax(dim=-1)
        # A product of matrices, because the (B, n, m, K) terms of 8 x 2 views and 65,536 codewords are gigabytes.
        with torch.autocast(prediction.device.type, enabled=False):
            return -(log_probability @ assignment.transpose(1, 2)).mean()

    def _assign(self, target: Tensor) -> Tensor:
        """The teacher's distribution over codewords (..., K), without gradient; in training the centre will see it."""
        similarities = target.detach().float()
        if self.training:
            rows = similarities.reshape(-1, target.shape[-1])
            self.pending[:-1] += rows.sum(dim=0)
            self.pending[-1] += len(rows)
        return ((similarities - self.center) / self.teacher_temperature(self.progress)).softmax(dim=-1)

    def set_progress(self, progress: float) -> None:
        self.progress = progress

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
