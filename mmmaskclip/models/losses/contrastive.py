"""Image-text contrastive losses."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmaskclip.registry import MODELS


def similarity_logits(rows: Tensor, columns: Tensor, logit_scale: Tensor) -> Tensor:
    """Scaled cosine similarities (R, K) of normalized embeddings (R, D) and (K, D), in float32 whatever the autocast.

    With a scale of 100, bfloat16 logits between 64 and 128 would be 0.5 apart.
    """
    with torch.autocast(rows.device.type, enabled=False):
        return logit_scale.float() * rows.float() @ columns.float().t()


def info_nce(
    image: Tensor, text: Tensor, all_image: Tensor, all_text: Tensor, logit_scale: Tensor, first_row: int = 0
) -> tuple[Tensor, Tensor]:
    """The two directions of InfoNCE (MaskCLIP, Eq. 2), in float32.

    Each process computes only its own rows, so memory is O(B x world_size * B).

    Args:
        image: Normalized image embeddings of this process, (B, D).
        text: Normalized text embeddings of this process, (B, D).
        all_image: Image embeddings of all processes, (G, D).
        all_text: Text embeddings of all processes, (G, D).
        logit_scale: Inverse temperature, scalar.
        first_row: Position of this process's first row in the gathered rows.

    Returns:
        L_I (image to text) and L_T (text to image), each the mean over this process's B rows.
    """
    labels = torch.arange(first_row, first_row + len(image), device=image.device)
    return (
        F.cross_entropy(similarity_logits(image, all_text, logit_scale), labels),
        F.cross_entropy(similarity_logits(text, all_image, logit_scale), labels),
    )


@MODELS.register_module()
class InfoNCELoss(nn.Module):
    """Softmax contrastive loss of CLIP and MaskCLIP.

    Args:
        reduction: ``'sum'`` gives L_I + L_T, as MaskCLIP writes it (Eq. 7), which fixes its ratio to the distillation
            loss; ``'mean'`` gives (L_I + L_T) / 2, as CLIP and SLIP do. Defaults to ``'mean'``.

    Raises:
        ValueError: If ``reduction`` is neither.
    """

    def __init__(self, reduction: str = 'mean'):
        super().__init__()
        if reduction not in ('sum', 'mean'):
            raise ValueError(f"reduction={reduction!r}: choose 'sum' (L_I + L_T) or 'mean' (their average)")
        self.factor = 1.0 if reduction == 'sum' else 0.5

    def forward(
        self, image: Tensor, text: Tensor, all_image: Tensor, all_text: Tensor, logit_scale: Tensor, first_row: int
    ) -> Tensor:
        """Scalar loss; arguments as in :func:`info_nce`."""
        to_text, to_image = info_nce(image, text, all_image, all_text, logit_scale, first_row)
        return self.factor * (to_text + to_image)
