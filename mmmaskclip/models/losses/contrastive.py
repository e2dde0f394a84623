"""The contrastive losses of CLIP and UniCL: a softmax over all captions, and one over all images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import ContrastiveLoss, Pairs
from mmmaskclip.models.losses.row_chunks import rows_in_chunks, some_pairs
from mmmaskclip.registry import MODELS


def similarity_logits(rows: Tensor, columns: Tensor, logit_scale: Tensor) -> Tensor:
    """Scaled cosine similarities (R, K) of normalized embeddings (R, D) and (K, D), in float32 under any autocast.

    With a scale of 100, bfloat16 logits between 64 and 128 would be 0.5 apart.
    """
    with torch.autocast(rows.device.type, enabled=False):
        return logit_scale.float() * rows.float() @ columns.float().t()


def belonging(pairs: Pairs) -> Tensor:
    """Which columns belong to each row, bool (B, G): its own, and those of rows that agree with it in a label."""
    columns = torch.arange(len(pairs.all_second), device=pairs.second.device)
    itself = columns == pairs.positions.unsqueeze(1)  # (B, G)
    if pairs.labels is None or pairs.all_labels is None:
        return itself
    own, others = (labels.unflatten(0, (-1, 1)).flatten(1) for labels in (pairs.labels, pairs.all_labels))
    agree = (own.unsqueeze(1) == others) & (own >= 0).unsqueeze(1)  # (B, G, K)
    return itself | agree.any(dim=-1)


def positive_targets(pairs: Pairs) -> Tensor:
    """The right column of each row, int64 (B,), or, with labels, probabilities (B, G) that its positives share evenly.

    They are UniCL's targets (Yang et al. 2022, Eq. 3 and 4).
    """
    if pairs.labels is None:
        return pairs.positions
    positives = belonging(pairs).float()
    return positives / positives.sum(dim=1, keepdim=True)


@MODELS.register_module()
class InfoNCELoss(nn.Module, ContrastiveLoss):
    """Softmax contrastive loss of CLIP and MaskCLIP (MaskCLIP, Eq. 2), in float32.

    Each process computes only its own rows, so memory is O(B x G). Rows that agree in a label, if the objective gives
    labels, are each other's positives and share the target evenly.

    Args:
        reduction: ``'sum'`` gives L_I + L_T, as MaskCLIP writes it (Eq. 7), which fixes its ratio to the distillation
            loss; ``'mean'`` gives (L_I + L_T) / 2, as CLIP and SLIP do. Defaults to ``'mean'``.
        max_logits: Where a process has more logits than this, it computes loss and gradients for some rows at a time,
            and holds no more of them. The result is equal to rounding. Defaults to 2**26, 256 MiB.
        tf32: Multiply in TF32 in chunks on a GPU; a similarity is then off by up to 1e-3. Defaults to False.

    Raises:
        ValueError: If ``reduction`` is neither.
    """

    def __init__(self, reduction: str = 'mean', max_logits: int = 2**26, tf32: bool = False):
        super().__init__()
        if reduction not in ('sum', 'mean'):
            raise ValueError(f"reduction={reduction!r}: choose 'sum' (L_I + L_T) or 'mean' (their average)")
        self.factor = 1.0 if reduction == 'sum' else 0.5
        self.max_logits = max_logits
        self.tf32 = tf32

    def forward(self, pairs: Pairs, logit_scale: Tensor) -> Tensor:
        """Scalar loss, L_I (image to text) plus L_T (text to image), each the mean over this process's rows."""
        if len(pairs.first) * len(pairs.all_first) > self.max_logits:
            return self.factor * (
                self._in_chunks(pairs, pairs.first, pairs.all_second, logit_scale)
                + self._in_chunks(pairs, pairs.second, pairs.all_first, logit_scale)
            )
        targets = positive_targets(pairs)
        to_text = F.cross_entropy(similarity_logits(pairs.first, pairs.all_second, logit_scale), targets)
        to_image = F.cross_entropy(similarity_logits(pairs.second, pairs.all_first, logit_scale), targets)
        return self.factor * (to_text + to_image)

    def _in_chunks(self, pairs: Pairs, rows: Tensor, columns: Tensor, logit_scale: Tensor) -> Tensor:
        """One direction, with the targets of some rows (B', G) at a time, too."""

        def loss_of_rows(logits: Tensor, part: slice) -> Tensor:
            return F.cross_entropy(logits, positive_targets(some_pairs(pairs, part)), reduction='sum')

        return rows_in_chunks(rows, columns, logit_scale, loss_of_rows, self.max_logits, self.tf32)


@MODELS.register_module()
class UniCLLoss(InfoNCELoss):
    """Image-text-label contrast (Yang et al. 2022, UniCL, Eq. 2-4), in float32. No library part of ours has it.

    All samples of one label are each other's positives and share the target evenly. With labels that are all different,
    or negative, it is ``InfoNCELoss``. UniCL writes the sum of both directions, ``reduction='sum'``.
    """

    needs_labels = True
