"""The pairwise sigmoid loss of SigLIP."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import ContrastiveLoss, Pairs
from mmmaskclip.models.losses.contrastive import belonging, similarity_logits
from mmmaskclip.models.losses.row_chunks import rows_in_chunks, some_pairs
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class SigmoidLoss(nn.Module, ContrastiveLoss):
    """Every pair of the batch is a binary question of its own (Zhai et al. 2023, SigLIP, Eq. 1), in float32.

    Each process has its images as rows and the captions of all processes as columns, so one process looks at each pair
    of the global batch. No library part of ours has this loss.

    SigLIP starts from a temperature of 0.1 (``init_temperature=0.1`` of ``ImageTextContrast``) and a bias of -10: the
    model then answers "no match" to almost all pairs, which is right for almost all of them.

    Args:
        init_bias: Initial value of the learned bias. Defaults to -10.
        max_logits: See :class:`~mmmaskclip.models.losses.contrastive.InfoNCELoss`. Defaults to 2**26.
        tf32: Likewise. Defaults to False.
    """

    #: Captions are columns only: without gradient through the gather they would never learn.
    needs_gather_grad = True

    def __init__(self, init_bias: float = -10.0, max_logits: int = 2**26, tf32: bool = False):
        super().__init__()
        self.max_logits = max_logits
        self.tf32 = tf32
        self.bias = nn.Parameter(torch.tensor(init_bias))

    def forward(self, pairs: Pairs, logit_scale: Tensor) -> Tensor:
        """Scalar: the mean over this process's B images of the sum over all G captions of -log sigmoid(z logit).

        z is 1 for an image with its own caption, or one whose row agrees with it in a label, -1 for every other pair.
        """
        if len(pairs.first) * len(pairs.all_second) > self.max_logits:
            return rows_in_chunks(
                pairs.first,
                pairs.all_second,
                logit_scale,
                lambda logits, part: self._sum(logits, some_pairs(pairs, part)),
                self.max_logits,
                self.tf32,
                [self.bias],
            )
        logits = similarity_logits(pairs.first, pairs.all_second, logit_scale)  # (B, G)
        return self._sum(logits, pairs) / len(logits)

    def _sum(self, logits: Tensor, pairs: Pairs) -> Tensor:
        logits = logits + self.bias.float()
        return -F.logsigmoid(torch.where(belonging(pairs), logits, -logits)).sum()
