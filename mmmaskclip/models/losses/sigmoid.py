"""The pairwise sigmoid loss of SigLIP."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmaskclip.models.losses.contrastive import similarity_logits
from mmmaskclip.registry import MODELS


def sigmoid_contrast(image: Tensor, all_text: Tensor, logit_scale: Tensor, bias: Tensor, first_row: int = 0) -> Tensor:
    """Sum over pairs of -log sigmoid(z (scale * similarity + bias)) per image (Zhai et al. 2023, Eq. 1), in float32.

    z is 1 for an image with its own text, -1 for every other pair. Each process has its images as rows and all texts
    as columns, so that each pair of the global batch is looked at once, by one process.

    Args:
        image: Normalized image embeddings of this process, (B, D).
        all_text: Normalized text embeddings of all processes, (G, D).
        logit_scale: Inverse temperature, scalar.
        bias: Added to all logits, scalar.
        first_row: Position of this process's first row in the gathered rows.

    Returns:
        Scalar, the mean over this process's B rows of their sums over the G columns.
    """
    logits = similarity_logits(image, all_text, logit_scale) + bias.float()
    columns = torch.arange(len(all_text), device=image.device)
    own = torch.arange(first_row, first_row + len(image), device=image.device)
    matching = columns == own.unsqueeze(1)
    return -F.logsigmoid(torch.where(matching, logits, -logits)).sum() / len(image)


@MODELS.register_module()
class SigmoidLoss(nn.Module):
    """SigLIP's loss: every pair of the batch is a binary question of its own. No library part of ours has it.

    SigLIP starts from a temperature of 0.1 (``init_temperature=0.1`` of ``ImageTextContrast``) and a bias of -10, with
    which almost all pairs are answered "no match", as is right for almost all of them.

    Args:
        init_bias: Initial value of the learned bias. Defaults to -10.
    """

    #: Texts are columns only: without gradient through the gather they would never learn.
    needs_gather_grad = True

    def __init__(self, init_bias: float = -10.0):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(init_bias))

    def forward(
        self, image: Tensor, text: Tensor, all_image: Tensor, all_text: Tensor, logit_scale: Tensor, first_row: int
    ) -> Tensor:
        """Scalar loss; arguments as in :func:`~.contrastive.info_nce`. ``text`` and ``all_image`` are not needed."""
        return sigmoid_contrast(image, all_text, logit_scale, self.bias, first_row)
