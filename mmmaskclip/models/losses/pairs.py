"""Pairs of rows with those of all processes, which contrastive losses compare."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from mmmaskclip.contracts import Pairs
from mmmaskclip.utils.distributed import gather_rows


def gather_pairs(
    firsts: Sequence[Tensor], second: Tensor, with_grad: bool, labels: Tensor | None = None
) -> list[Pairs]:
    """Pair each of several row matrices with ``second``, and gather the rows of all processes.

    Args:
        firsts: Normalized embeddings, (B, D) each, e.g. of several views.
        second: Their partners, (B, D).
        with_grad: Let gradients flow through the rows of other processes.
        labels: Class of each row, int64 (B,), or K kinds of class, (B, K). None by default.

    Raises:
        ValueError: If the matrices differ in shape.
    """
    for first in firsts:
        if first.shape != second.shape:
            raise ValueError(
                f'embeddings of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared: give both '
                'projections the same embed_dims'
            )
    # One collective for all matrices.
    gathered = gather_rows(torch.cat((*firsts, second), dim=1), with_grad)  # (G, (n + 1) D)
    *all_firsts, all_second = gathered.split(second.shape[1], dim=1)
    first_row = dist.get_rank() * len(second) if dist.is_initialized() else 0
    all_labels = None if labels is None else gather_rows(labels, with_grad=False)
    return [
        Pairs(first, second, all_first, all_second, first_row, labels, all_labels)
        for first, all_first in zip(firsts, all_firsts, strict=True)
    ]
