"""Cross-entropy between soft codeword assignments."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import FollowsRun, Similarities
from mmmaskclip.models.losses.row_chunks import float32_products
from mmmaskclip.models.ramp import Ramp
from mmmaskclip.models.regional_compile import region
from mmmaskclip.registry import MODELS


class ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of two distributions over codewords, and its gradients, for some images at a time.

    With logits z = x W' / t, p = softmax(z) and the teacher's q, the gradient of the loss of a row is (p - q) / t
    with respect to the similarities: all that the backward pass needs is known in the forward pass. It keeps the
    gradients of x and W, not the logits. The loss is linear in q, so that against several rows of the teacher it is
    the loss against their mean.
    """

    @staticmethod
    def forward(ctx, compare, student, codewords, teacher, teacher_codewords, center, student_t, teacher_t, chunk):
        """Mean loss, scalar, and mean assignment (K,) of features (B, n, D) and (B, m, D), codewords (K, D) each.

        Each of the student's n rows of an image is compared with each of the teacher's m by ``compare``,
        :meth:`CodewordLoss.compare`; ``chunk`` counts images.
        """
        loss, mean_assignment = student.new_zeros(()), torch.zeros_like(center)
        grad_student, grad_codewords = torch.empty_like(student), torch.zeros_like(codewords)
        for start in range(0, len(student), chunk):
            part = slice(start, start + chunk)
            logits, teacher_logits = F.linear(student[part], codewords), F.linear(teacher[part], teacher_codewords)
            some_loss, assignment, grad = compare(logits, teacher_logits, center, student_t, teacher_t)
            loss += some_loss
            mean_assignment += assignment
            grad_student[part] = (grad @ codewords).view_as(student[part])
            grad_codewords.addmm_(grad.t(), student[part].flatten(0, 1))
        count = student[..., 0].numel()
        ctx.save_for_backward(grad_student, grad_codewords)
        ctx.scale = 1 / (count * float(student_t))
        mean_assignment /= len(student)
        ctx.mark_non_differentiable(mean_assignment)
        return loss / count, mean_assignment

    @staticmethod
    def backward(ctx, grad_loss, _):
        grad_student, grad_codewords = ctx.saved_tensors
        scale = grad_loss * ctx.scale
        return None, scale * grad_student, scale * grad_codewords, *[None] * 6


@MODELS.register_module()
class CodewordLoss(nn.Module, FollowsRun):
    """CVPR's codeword distillation, in float32. What the paper leaves open follows DINO and iBOT.

    Loss of one row of features: the cross-entropy of softmax(student / student temperature) under softmax((teacher -
    centre) / teacher temperature). The centre is a running mean of the teacher's similarities, so that no codeword
    wins everywhere.

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
        max_logits: Where rows x codewords are more than this, :meth:`forward` computes the loss and its gradients in
            chunks of this many, and holds no more. The result is equal to rounding. Defaults to 2**26, 256 MiB.
        tf32: Multiply in TF32 in chunks on a GPU, as fast as bfloat16; a cosine is then off by up to 1e-3. Defaults to
            False.
    """

    center: Tensor
    pending: Tensor

    def __init__(
        self,
        num_prototypes: int = 8192,
        student_temperature: float = 0.1,
        teacher_temperature: float | dict = 0.04,
        center_momentum: float = 0.9,
        max_logits: int = 2**26,
        tf32: bool = False,
    ):
        super().__init__()
        self.student_temperature = student_temperature
        self.teacher_temperature = Ramp.of(teacher_temperature)
        self.center_momentum = center_momentum
        self.max_logits = max_logits
        self.tf32 = tf32
        self.progress = 0.0
        self.register_buffer('center', torch.zeros(num_prototypes))
        # Sums of similarities since the last optimizer step, and their number: as a float, one all-reduce does both.
        self.register_buffer('pending', torch.zeros(num_prototypes + 1), persistent=False)
        self._mean_assignment: Tensor | None = None

    def forward(self, prediction: Similarities, target: Similarities) -> Tensor:
        """Scalar loss of the student's similarities (..., K) against the teacher's (..., K), the mean over the rows."""
        if self._is_large(prediction):
            # Every row counts as an image of its own.
            student, teacher = (part.features.flatten(0, -2).unsqueeze(1) for part in (prediction, target))
            return self._in_chunks(student, teacher, prediction.codewords, target.codewords)
        assignment = self._assign(target.whole())
        logits = prediction.whole() / self.student_temperature
        return F.cross_entropy(logits.flatten(0, -2), assignment.flatten(0, -2))

    def _is_large(self, prediction: Similarities) -> bool:
        return prediction.features[..., 0].numel() * len(prediction.codewords) > self.max_logits

    def _in_chunks(self, student: Tensor, teacher: Tensor, codewords: Tensor, teacher_codewords: Tensor) -> Tensor:
        """The loss of the student's features (B, n, D) against the teacher's (B, m, D), some images at a time."""
        teacher = teacher.detach()
        chunk = max(1, self.max_logits // (student.shape[1] * len(codewords)))
        # In tensors, so that one compiled form serves all temperatures of a ramp.
        temperatures = map(torch.tensor, (self.student_temperature, self.teacher_temperature(self.progress)))
        with float32_products(student.device, self.tf32):
            if self.training:
                # The sum of similarities is the similarity of the sum.
                self.pending[:-1] += F.linear(teacher.sum(dim=(0, 1)), teacher_codewords)
                self.pending[-1] += teacher[..., 0].numel()
            loss, self._mean_assignment = ChunkedCrossEntropy.apply(
                self.compare, student, codewords, teacher, teacher_codewords, self.center, *temperatures, chunk
            )
        return loss

    @region
    def compare(
        self, logits: Tensor, teacher_logits: Tensor, center: Tensor, student_t: Tensor, teacher_t: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Summed loss of similarities (b, n, K) against each of (b, m, K), what it adds to the assignment, gradient.

        Args:
            logits: The student's similarities.
            teacher_logits: The teacher's, of the same images.
            center: (K,).
            student_t: Temperature of the student, 0-dim.
            teacher_t: Temperature of the teacher, 0-dim.

        Returns:
            Scalar loss, summed assignment (K,), and the loss's gradient times ``student_t``, (b * n, K).
        """
        log_p = (logits / student_t).log_softmax(dim=-1)  # (b, n, K)
        q = ((teacher_logits - center) / teacher_t).softmax(dim=-1).mean(dim=1, keepdim=True)  # (b, 1, K)
        loss = -(q * log_p).sum()
        return loss, q.sum(dim=(0, 1)), log_p.exp_().sub_(q).flatten(0, 1)

    def all_pairs(self, prediction: Similarities, target: Similarities) -> Tensor:
        """Scalar loss of n student views (B, n, K) against each of m teacher views (B, m, K) of the same images."""
        if self._is_large(prediction):
            return self._in_chunks(prediction.features, target.features, prediction.codewords, target.codewords)
        assignment = self._assign(target.whole())
        log_probability = (prediction.whole() / self.student_temperature).log_softmax(dim=-1)
        # A product of matrices, because the (B, n, m, K) terms of 8 x 2 views and 65,536 codewords are gigabytes.
        with torch.autocast(log_probability.device.type, enabled=False):
            return -(log_probability @ assignment.transpose(1, 2)).mean()

    def _assign(self, similarities: Tensor) -> Tensor:
        """The teacher's distribution over codewords (..., K), without gradient; in training the centre will see it."""
        similarities = similarities.detach()
        if self.training:
            rows = similarities.reshape(-1, similarities.shape[-1])
            self.pending[:-1] += rows.sum(dim=0)
            self.pending[-1] += len(rows)
        assignment = ((similarities - self.center) / self.teacher_temperature(self.progress)).softmax(dim=-1)
        self._mean_assignment = assignment.flatten(0, -2).mean(dim=0)
        return assignment

    def set_progress(self, progress: float) -> None:
        self.progress = progress

    def logged(self) -> dict[str, float | Tensor]:
        """Log perplexity (nats) of the mean assignment of the last batch.

        log K means that all codewords are used alike, 0 that one is used for everything, which is a collapse.
        """
        if self._mean_assignment is None:
            return {}
        return {'codeword_log_perplexity': torch.special.entr(self._mean_assignment).sum()}

    @torch.no_grad()
    def after_optimizer_step(self) -> None:
        """Move the centre towards the mean similarity of this step's features on all processes, if there were any."""
        if dist.is_initialized():
            dist.all_reduce(self.pending)
        count = self.pending[-1]
        # A step without features (an objective that starts late) would give 0 / 0; asking on the host would wait.
        share = (1 - self.center_momentum) * (count > 0)
        self.center.lerp_(self.pending[:-1] / count.clamp(min=1), share)
        self.pending.zero_()
