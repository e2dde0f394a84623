"""The contrastive loss of SimCLR."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import Pairs
from mmmaskclip.models.losses.contrastive import similarity_logits
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class NTXentLoss(nn.Module):
    """Normalized temperature-scaled cross-entropy (Chen et al. 2020, SimCLR, Eq. 1), in float32.

    Each of the 2B views of this process must find the other view of its image among the 2G views of all processes,
    itself left out. mmpretrain's loss is tied to its SimCLR model, gathers on its own, and picks negatives with a
    boolean index, which makes the host wait.

    Args:
        temperature: Temperature of the softmax. Defaults to 0.1, SLIP's value.
    """

    def __init__(self, temperature: float = 0.1):
        super().__init__()
        self.temperature = temperature

    def forward(self, pairs: Pairs) -> Tensor:
        """Scalar loss of two views per image, the mean over this process's 2B views."""
        total = len(pairs.all_first)
        rows = torch.cat((pairs.first, pairs.second))  # (2B, D)
        columns = torch.cat((pairs.all_first, pairs.all_second))  # (2G, D)
        scale = rows.new_full((), 1 / self.temperature, dtype=torch.float32)
        logits = similarity_logits(rows, columns, scale)  # (2B, 2G)
        itself = torch.cat((pairs.positions, pairs.positions + total))  # (2B,)
        is_itself = torch.arange(2 * total, device=rows.device) == itself.unsqueeze(1)  # (2B, 2G)
        logits = logits.masked_fill(is_itself, float('-inf'))
        return F.cross_entropy(logits, torch.cat((pairs.positions + total, pairs.positions)))
