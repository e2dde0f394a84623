"""The contrastive loss of UniCL, for image-text pairs and image-label samples in one batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmaskclip.models.losses.contrastive import similarity_logits
from mmmaskclip.registry import MODELS


def unicl(
    image: Tensor,
    text: Tensor,
    all_image: Tensor,
    all_text: Tensor,
    logit_scale: Tensor,
    first_row: int,
    labels: Tensor,
    all_labels: Tensor,
) -> tuple[Tensor, Tensor]:
    """The two directions of image-text-label contrast (Yang et al. 2022, UniCL, Eq. 2-4), in float32.

    All samples of one label are each other's positives and share the target evenly.

    Args:
        image: Normalized image embeddings of this process, (B, D).
        text: Normalized text embeddings of this process, (B, D).
        all_image: Image embeddings of all processes, (G, D).
        all_text: Text embeddings of all processes, (G, D).
        logit_scale: Inverse temperature, scalar.
        first_row: Position of this process's first row in the gathered rows.
        labels: Class of each of this process's rows, int64 (B,); a negative one is a class of its own.
        all_labels: Those of all processes, (G,).

    Returns:
        L_I (image to text) and L_T (text to image), each the mean over this process's B rows. With labels that are
        all different, or negative, these are InfoNCE's.
    """
    own = torch.arange(first_row, first_row + len(image), device=image.device)
    itself = torch.arange(len(all_text), device=image.device) == own.unsqueeze(1)
    same_class = (labels.unsqueeze(1) == all_labels) & (labels >= 0).unsqueeze(1)
    positives = (itself | same_class).float()
    targets = positives / positives.sum(dim=1, keepdim=True)
    return (
        F.cross_entropy(similarity_logits(image, all_text, logit_scale), targets),
        F.cross_entropy(similarity_logits(text, all_image, logit_scale), targets),
    )


@MODELS.register_module()
class UniCLLoss(nn.Module):
    """Softmax contrast with soft targets from labels. No library part of ours has it.

    Args:
        reduction: ``'mean'`` gives (L_I + L_T) / 2, which on image-text pairs is ``InfoNCELoss``'s; ``'sum'`` gives
            L_I + L_T, as UniCL writes it (Eq. 2). Defaults to ``'mean'``.

    Raises:
        ValueError: If ``reduction`` is neither.
    """

    #: ``ImageTextContrast`` passes it the labels of the batch.
    needs_labels = True

    def __init__(self, reduction: str = 'mean'):
        super().__init__()
        if reduction not in ('sum', 'mean'):
            raise ValueError(f"reduction={reduction!r}: choose 'sum' (L_I + L_T) or 'mean' (their average)")
        self.factor = 1.0 if reduction == 'sum' else 0.5

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        all_image: Tensor,
        all_text: Tensor,
        logit_scale: Tensor,
        first_row: int,
        labels: Tensor,
        all_labels: Tensor,
    ) -> Tensor:
        """Scalar loss; arguments as in :func:`unicl`."""
        to_text, to_image = unicl(image, text, all_image, all_text, logit_scale, first_row, labels, all_labels)
        return self.factor * (to_text + to_image)
