"""A loss whose gradients are computed in its forward pass, some samples at a time, so that no activation is kept."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def loss_at_once(
    compute: Callable[[Tensor, slice], Tensor], rows: Tensor, parameters: Iterable[nn.Parameter], chunk: int
) -> Tensor:
    """A mean over samples, forward and backward for ``chunk`` samples at a time.

    The gradients wait, scaled by the gradient of the loss, for the backward pass, which sees ordinary gradients of
    ``rows`` and of the parameters: DDP, a loss scale and accumulation need not know. Memory is that of one chunk and
    one more gradient of the parameters.

    Args:
        compute: Gives the mean loss, scalar, of some rows; the slice says which. It may use the parameters and nothing
            else that learns.
        rows: What the samples enter with, (B, ...).
        parameters: What learns besides.
        chunk: Samples at a time.

    Returns:
        The mean loss of all samples, scalar.

    Raises:
        ValueError: If parameters are sharded: they are whole only inside the modules' own calls.
    """
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    if any(isinstance(parameter, DTensor) for parameter in learned):
        raise ValueError('images_at_once does not work with FullyShardedModel: leave one of the two out')
    if not torch.is_grad_enabled():
        shares = [
            (slice(start, start + chunk), len(rows[start : start + chunk])) for start in range(0, len(rows), chunk)
        ]
        return torch.stack([compute(rows[part], part) * count for part, count in shares]).sum() / len(rows)
    return _AtOnce.apply(compute, chunk, rows, *learned)


class _AtOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, compute, chunk, rows, *parameters):
        total = torch.zeros((), device=rows.device)
        grad_rows = torch.empty_like(rows)
        grads: list[Tensor | None] = [None] * len(parameters)
        for start in range(0, len(rows), chunk):
            part = slice(start, start + chunk)
            # Otherwise all chunks share bfloat16 copies of the weights, whose graph the first chunk has freed.
            torch.clear_autocast_cache()
            with torch.enable_grad():
                some = rows[part].detach().requires_grad_()
                loss = compute(some, part) * (len(some) / len(rows))
            grad_rows[part], *others = torch.autograd.grad(loss, (some, *parameters), allow_unused=True)
            total += loss.detach()
            grads = [_sum(old, new) for old, new in zip(grads, others, strict=True)]
        torch.clear_autocast_cache()
        ctx.used = [grad is not None for grad in grads]
        ctx.save_for_backward(grad_rows, *(grad for grad in grads if grad is not None))
        return total

    @staticmethod
    def backward(ctx, grad_loss):
        grad_rows, *grads = ctx.saved_tensors
        scaled = iter(grads)
        return None, None, grad_loss * grad_rows, *(grad_loss * next(scaled) if used else None for used in ctx.used)


def _sum(old: Tensor | None, new: Tensor | None) -> Tensor | None:
    if old is None or new is None:
        return new if old is None else old
    return old.add_(new)
