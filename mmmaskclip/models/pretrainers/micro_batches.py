"""The losses, and through them the exact gradient, of a batch that does not fit into memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmmaskclip.contracts import Views
from mmmaskclip.models.objectives import ComparingObjective, Objective

Objectives = Mapping[str, Objective]
MakeViews = Callable[[dict[str, Any]], Views]


def check_micro_batches(model: nn.Module, objectives: Objectives, micro_batch_size: int) -> None:
    """Refuse a model whose micro-batches would not add up to the batch.

    Raises:
        ValueError: If ``micro_batch_size`` is not positive, an objective neither says ``per_sample`` nor compares what
            it embeds, or there is a batch norm, whose statistics would be those of a micro-batch.
    """
    if micro_batch_size < 1:
        raise ValueError(f'micro_batch_size={micro_batch_size}: give the samples that fit into memory, or leave it out')
    for name, objective in objectives.items():
        if not (objective.per_sample or isinstance(objective, ComparingObjective)):
            raise ValueError(
                f'micro_batch_size={micro_batch_size}, but the objective {name!r} ({type(objective).__name__}) does '
                'not say how it adds up over micro-batches: set its per_sample = True if its loss is a mean over '
                'samples, derive it from ComparingObjective if it compares them, or leave micro_batch_size out'
            )
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            raise ValueError(
                f'micro_batch_size={micro_batch_size}, but {name} ({type(module).__name__}) takes statistics over the '
                'batch, which would be those of a micro-batch: use a layer norm there, or leave micro_batch_size out'
            )


def losses_in_micro_batches(
    objectives: Objectives, make_views: MakeViews, batch: dict[str, Any], micro_batch_size: int
) -> dict[str, dict[str, Tensor]]:
    """Losses of a large batch, holding activations for one micro-batch at a time (recomputed in backward).

    Every micro-batch is a checkpoint of torch. The forward pass keeps its per-sample losses and embeddings alone; the
    backward pass computes the rest again, with the same dropped paths (torch restores the generators) and the same
    masks (functions of the seeds). Between the two passes all embeddings are compared with each other, so that the
    gradient is the batch's. There is one loss and one backward pass, as without micro-batches: DDP exchanges gradients
    once, and loss scale, accumulation and checks of the loss need not know.

    Memory beside the batch and its embeddings is that of one micro-batch and, during the backward pass, one gradient
    of all parameters. Time is that of a step plus one more forward pass, the teacher's included.

    Args:
        objectives: Objectives by name.
        make_views: Makes the views of a part of the batch.
        batch: The preprocessed batch; its tensors have one row per sample.
        micro_batch_size: Samples per micro-batch; the last one may have fewer.

    Returns:
        Losses by name by objective.

    Raises:
        ValueError: If tensors of the batch have different lengths.
    """
    parts = _split(batch, micro_batch_size)
    outputs = []
    for part in parts:
        # Otherwise all micro-batches share bfloat16 copies of the weights, and their gradients add up in bfloat16.
        torch.clear_autocast_cache()
        outputs.append(
            checkpoint(
                partial(_first_part, objectives, make_views),
                part,
                use_reentrant=False,
                context_fn=partial(_contexts, objectives),
            )
        )
    shares = [_length(part) / _length(batch) for part in parts]
    return {
        name: _second_part(objective, [output[name] for output in outputs], shares)
        for name, objective in objectives.items()
    }


def _first_part(objectives: Objectives, make_views: MakeViews, part: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    """What each objective computes from some samples without the others."""
    views = make_views(part)
    return {
        name: objective.embed(views) if isinstance(objective, ComparingObjective) else objective(views)
        for name, objective in objectives.items()
    }


def _second_part(objective: Objective, results: list[dict[str, Tensor]], shares: list[float]) -> dict[str, Tensor]:
    """The losses of an objective from what its micro-batches gave."""
    if isinstance(objective, ComparingObjective):
        return objective.compare({key: torch.cat([rows[key] for rows in results]) for key in results[0]})
    return {
        key: torch.stack([share * losses[key] for share, losses in zip(shares, results, strict=True)]).sum()
        for key in results[0]
    }


def _split(batch: dict[str, Any], size: int) -> list[dict[str, Any]]:
    """Micro-batches of the batch's tensors and of its captions' ends; objectives have no use for the rest."""
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    lengths = {name: len(value) for name, value in tensors.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(
            f'the tensors of the batch have different numbers of rows, {lengths}: micro-batches need one row per '
            'sample in each; let the dataset take one caption per sample'
        )
    columns = [value.split(size) for value in tensors.values()]
    parts: list[dict[str, Any]] = [dict(zip(tensors, rows, strict=True)) for rows in zip(*columns, strict=True)]
    if 'caption_ends' in batch:
        for index, part in enumerate(parts):
            part['caption_ends'] = batch['caption_ends'][index * size : (index + 1) * size]
    return parts


def _length(batch: dict[str, Any]) -> int:
    return next(len(value) for value in batch.values() if isinstance(value, Tensor))


def _contexts(objectives: Objectives) -> tuple[AbstractContextManager, AbstractContextManager]:
    """What the first and the second computation of a micro-batch run in."""
    return nullcontext(), _without_trace(objectives.values())


@contextmanager
def _without_trace(objectives: Iterable[nn.Module]) -> Iterator[None]:
    """Let the second computation write to copies of the buffers, or codeword losses count their features twice."""
    buffers = [
        (module, name, buffer)
        for objective in objectives
        for module in objective.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    for module, name, buffer in buffers:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in buffers:
            setattr(module, name, buffer)
