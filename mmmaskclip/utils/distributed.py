"""Collectives that mmengine.dist does not have."""

from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import all_reduce, broadcast_object_list
from torch import Tensor

from mmmaskclip.utils.store import pack_error, raise_packed


def gather_rows(rows: Tensor, with_grad: bool = True) -> Tensor:
    """Concatenate the rows of all processes, in rank order.

    Unlike mmengine.dist.all_gather, this function passes gradients on.

    Args:
        rows: This process's rows, (B, ...), the same B on every process.
        with_grad: Whether gradients flow back to the process that owns each row, which sums them. Together with DDP's
            average over processes this gives exactly the gradient of one process with the whole batch. If False, the
            gathered rows are constants, as in SLIP. With one process nothing is gathered, and gradients always flow.

    Returns:
        (world_size * B, ...).
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    if with_grad:
        return _GatherRows.apply(rows)
    return _gather(rows.detach())


class _GatherRows(torch.autograd.Function):
    """Like torch.distributed.nn.functional.all_gather, with one tensor instead of a list that would be copied."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return _gather(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        own = gradient.new_empty(len(gradient) // dist.get_world_size(), *gradient.shape[1:])
        dist.reduce_scatter_tensor(own, gradient)
        return own


def _gather(rows: Tensor) -> Tensor:
    gathered = rows.new_empty(dist.get_world_size() * len(rows), *rows.shape[1:])
    dist.all_gather_into_tensor(gathered, rows.contiguous())
    return gathered


def any_rank(flag: bool) -> bool:
    """Tell every process whether the flag is set on any of them.

    Collective, over the default process group; the host waits for the device.

    Args:
        flag: This process's.

    Returns:
        Whether any process has given True; the same on every process.
    """
    value = torch.tensor(int(flag))
    all_reduce(value, op='max')
    return bool(value)


def raise_everywhere(error: Exception | None) -> None:
    """Raise rank 0's error on all ranks, so that no rank waits for one that has ended.

    Collective.

    Args:
        error: What went wrong on rank 0, None if nothing did. The other ranks give None.

    Raises:
        OSError: On the other ranks, with the same number, if rank 0's error is one.
        RuntimeError: On the other ranks, if rank 0's error is of another kind.
    """
    sent = [pack_error(error)]
    broadcast_object_list(sent)
    if error is not None:
        raise error
    raise_packed(sent[0])
