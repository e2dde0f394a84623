"""The contrastive loss of SimCLR."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmaskclip.models.losses.contrastive import similarity_logits
from mmmaskclip.registry import MODELS


def nt_xent(
    first: Tensor, second: Tensor, all_first: Tensor, all_second: Tensor, temperature: float, first_row: int = 0
) -> Tensor:
    """Normalized temperature-scaled cross-entropy (Chen et al. 2020, SimCLR, Eq. 1), in float32.

    Every one of the 2B views of this process must find the other view of its image among the 2G views of all
    processes without itself.

    Args:
        first: Normalized embeddings of this process's first views, (B, D).
        second: Those of the second views of the same images, (B, D).
        all_first: First views of all processes, (G, D).
        all_second: Second views of all processes, (G, D).
        temperature: Temperature of the softmax.
        first_row: Position of this process's first row in the gathered rows.

    Returns:
        Scalar, the mean over this process's 2B views.
    """
    batch, total = len(first), len(all_first)
    scale = first.new_full((), 1 / temperature, dtype=torch.float32)
    logits = similarity_logits(torch.cat((first, second)), torch.cat((all_first, all_second)), scale)
    own = torch.arange(first_row, first_row + batch, device=first.device)
    itself = torch.cat((own, own + total))
    columns = torch.arange(2 * total, device=first.device)
    logits = logits.masked_fill(columns == itself.unsqueeze(1), float('-inf'))
    return F.cross_entropy(logits, torch.cat((own + total, own)))


@MODELS.register_module()
class NTXentLoss(nn.Module):
    """SimCLR's loss. mmpretrain's is tied to its SimCLR model, picks negatives with a boolean index, which makes the
    host wait, and gathers on its own.

    Args:
        temperature: Temperature of the softmax. Defaults to 0.1, SLIP's value.
    """

    def __init__(self, temperature: float = 0.1):
        super().__init__()
        self.temperature = temperature

    def forward(
        self, first: Tensor, second: Tensor, all_first: Tensor, all_second: Tensor, first_row: int = 0
    ) -> Tensor:
        """Scalar loss; arguments as in :func:`nt_xent`."""
        return nt_xent(first, second, all_first, all_second, self.temperature, first_row)
