"""The pairwise sigmoid loss of SigLIP."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import ContrastiveLoss, Pairs
from mmmaskclip.models.losses.contrastive import belonging, similarity_logits
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
    """

    #: Captions are columns only: without gradient through the gather they would never learn.
    needs_gather_grad = True

    def __init__(self, init_bias: float = -10.0):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(init_bias))

    def forward(self, pairs: Pairs, logit_scale: Tensor) -> Tensor:
        """Scalar: the mean over this process's B images of the sum over all G captions of -log sigmoid(z logit).

        z is 1 for an image with its own caption, or one whose row agrees with it in a label, -1 for every other pair.
        """
        logits = similarity_logits(pairs.first, pairs.all_second, logit_scale) + self.bias.float()  # (B, G)
        return -F.logsigmoid(torch.where(belonging(pairs), logits, -logits)).sum() / len(logits)
