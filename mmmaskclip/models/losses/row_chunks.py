"""Contrastive losses of so many rows that one process could not hold all their logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmmaskclip.contracts import Pairs

# The summed loss of some rows, from their logits (R, K) and the slice that they are of all rows.
LossOfRows = Callable[[Tensor, slice], Tensor]


@contextmanager
def float32_products(device: torch.device, tf32: bool) -> Iterator[None]:
    """Float32 products of matrices whatever the autocast, in TF32 on a GPU if asked for."""
    products = torch.backends.cuda.matmul
    before = products.fp32_precision if tf32 else None
    try:
        if tf32:
            products.fp32_precision = 'tf32'
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if tf32:
            products.fp32_precision = before


def some_pairs(pairs: Pairs, part: slice) -> Pairs:
    """Some rows of pairs, with all columns."""
    labels = None if pairs.labels is None else pairs.labels[part]
    first_row = pairs.first_row + part.start
    return replace(pairs, first=pairs.first[part], second=pairs.second[part], first_row=first_row, labels=labels)


def rows_in_chunks(
    rows: Tensor,
    columns: Tensor,
    logit_scale: Tensor,
    loss_of_rows: LossOfRows,
    max_logits: int,
    tf32: bool = False,
    parameters: Sequence[nn.Parameter] = (),
) -> Tensor:
    """The mean over rows of a loss of scaled similarities, with its gradients computed in the forward pass.

    It never holds more than a chunk of the logits and of their gradient, and keeps one gradient of rows and columns.
    Equal to rounding to the whole computation.

    Args:
        rows: Normalized embeddings, (R, D).
        columns: Likewise, (K, D).
        logit_scale: Factor of the similarities, 0-dim.
        loss_of_rows: Gives the summed loss, scalar, of the logits of some rows.
        max_logits: Logits of a chunk, which has at least one row.
        tf32: Multiply in TF32 on a GPU; a similarity is then off by up to 1e-3.
        parameters: What ``loss_of_rows`` learns with.

    Returns:
        Scalar.
    """
    chunk = max(1, max_logits // len(columns))
    with float32_products(rows.device, tf32):
        return _RowsInChunks.apply(
            loss_of_rows, chunk, tf32, rows.float(), columns.float(), logit_scale.float(), *parameters
        )


class _RowsInChunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss_of_rows, chunk, tf32, rows, columns, scale, *parameters):
        total = rows.new_zeros(())
        grad_rows, grad_columns, grad_scale = torch.empty_like(rows), torch.zeros_like(columns), torch.zeros_like(scale)
        grads = [torch.zeros_like(parameter) for parameter in parameters]
        for start in range(0, len(rows), chunk):
            part = slice(start, min(start + chunk, len(rows)))
            logits = scale * rows[part] @ columns.t()  # (chunk, K)
            with torch.enable_grad():
                loss = loss_of_rows(logits.requires_grad_(), part)
            grad, *others = torch.autograd.grad(loss, (logits, *parameters))
            total += loss.detach()
            for old, new in zip(grads, others, strict=True):
                old += new
            grad_scale += (grad * logits.detach()).sum() / scale
            grad *= scale
            torch.mm(grad, columns, out=grad_rows[part])
            grad_columns.addmm_(grad.t(), rows[part])
        ctx.save_for_backward(grad_rows, grad_columns, grad_scale, *grads)
        ctx.count = len(rows)
        return total / len(rows)

    @staticmethod
    def backward(ctx, grad_loss):
        return None, None, None, *(grad_loss / ctx.count * grad for grad in ctx.saved_tensors)
