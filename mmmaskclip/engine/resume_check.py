"""Resuming with another number of processes, another batch size or other data."""

from __future__ import annotations

import copy
from collections.abc import Sized
from typing import Any

from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from torch.utils.data import IterableDataset

from mmmaskclip.contracts import CountsSamples
from mmmaskclip.engine.loops.pretrain_loop import PretrainLoop
from mmmaskclip.engine.step.optim_wrapper import PretrainOptimWrapper

_NAMES = ('world_size', 'batch_size', 'accumulative_counts', 'dataset_size')


def measure(loop: BaseLoop) -> dict[str, Any]:
    """The sizes that decide the position of a run in its data.

    Args:
        loop: The training loop.

    Returns:
        ``world_size``, ``batch_size`` (per process), ``accumulative_counts``, ``dataset_size`` (samples of all
        processes; None if the dataset has no length) and ``batches_per_epoch`` (of each process; None without length).
    """
    dataset: Any = loop.dataloader.dataset
    size = len(dataset) if isinstance(dataset, Sized) else None
    batches = None if size is None else len(loop.dataloader)
    if isinstance(dataset, CountsSamples):
        size = dataset.total_samples
    elif size is not None and isinstance(dataset, IterableDataset):
        size *= get_world_size()
    wrapper = loop.runner.optim_wrapper
    return {
        'world_size': get_world_size(),
        # mmdet's batch sampler does not subclass torch's BatchSampler, so the loader itself has no batch size.
        'batch_size': getattr(loop.dataloader.batch_sampler, 'batch_size', loop.dataloader.batch_size),
        'accumulative_counts': wrapper._accumulative_counts if isinstance(wrapper, OptimWrapper) else 1,
        'dataset_size': size,
        'batches_per_epoch': batches,
    }


def check_resume(meta: dict[str, Any], loop: BaseLoop) -> None:
    """If the batch size has changed, continue at the same number of samples, with a warning, or refuse.

    Call this function after everything else is resumed. :class:`~mmmaskclip.engine.PretrainLoop` continues at the
    iteration that corresponds to the same number of samples of the epoch, rounded down. The schedules get the values of
    a fresh run at that iteration, and ``steps_taken`` of the optimizer wrapper is scaled. The learning rate is not
    scaled.

    With ``ResumableSampler`` the rest of the epoch consists of exactly the samples not seen yet. Shards, however, are
    divided differently among another number of processes, and a dataset of another size is shuffled differently. Then
    some samples occur twice in this epoch, and others not at all.

    mmengine's ``EpochBasedTrainLoop`` cannot start inside an epoch: it repeats that epoch.

    Args:
        meta: Result of :func:`measure` in the saved run.
        loop: The training loop, at the saved iteration. The loop and its runner's schedules are changed in place.

    Raises:
        ValueError: If the global batch has changed and the loop is not ``PretrainLoop``, or a schedule counts
            iterations.
    """
    runner = loop.runner
    now = measure(loop)
    changed = [
        f'{name} was {meta[name]} and is {now[name]}' for name in _NAMES if meta.get(name, now[name]) != now[name]
    ]
    pretrain = isinstance(loop, PretrainLoop)
    texts: list[str] = []
    old_iter = loop.iter
    if changed:
        if pretrain:
            texts = _move(loop, meta, now)
        elif _global_batch(meta) != _global_batch(now):
            raise ValueError(
                f'Cannot resume: {", ".join(changed)}. Iterations of {type(loop).__name__} would stand for '
                f'{_global_batch(now)} samples instead of {_global_batch(meta)}. Keep world_size x batch_size, or '
                'start a new run with load_from.'
            )
        texts = [f'{", ".join(changed)}.', *texts, 'The learning rate is not scaled.']
    if not pretrain and isinstance(loop, EpochBasedTrainLoop) and loop.iter != loop.epoch * len(loop.dataloader):
        loop._iter = loop.epoch * len(loop.dataloader)
        texts.append(f'{type(loop).__name__} cannot start inside an epoch: epoch {loop.epoch + 1} starts again.')
    if loop.iter != old_iter:
        _rebuild_schedules(loop)
    if texts:
        runner.logger.warning(f'Resumed with a difference: {" ".join(texts)}')


def _global_batch(sizes: dict[str, Any]) -> int:
    return sizes['world_size'] * sizes['batch_size']


def _move(loop: PretrainLoop, old: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Move the loop to the same number of samples of the epoch; returns the sentences of the warning."""
    batches = old['batches_per_epoch']
    if batches != len(loop.dataloader):
        _refuse_schedules_by_iteration(loop, old, now)
    done = min(max(loop.iter - loop.epoch * batches, 0), batches)
    seen = done * _global_batch(old)
    iteration = loop.epoch * len(loop.dataloader) + min(seen // _global_batch(now), len(loop.dataloader))
    texts = [
        f'Continuing in epoch {loop.epoch + 1} after {seen} of its samples: iteration {loop.iter} is now {iteration}.'
    ]
    shards = isinstance(loop.dataloader.dataset, IterableDataset)
    if 0 < done < batches and (shards or old['dataset_size'] != now['dataset_size']):
        texts.append('In the rest of this epoch some samples come twice and others not at all.')
    wrapper = loop.runner.optim_wrapper
    if isinstance(wrapper, PretrainOptimWrapper):
        samples_per_step = [_global_batch(sizes) * sizes['accumulative_counts'] for sizes in (old, now)]
        wrapper.steps_taken = wrapper.steps_taken * samples_per_step[0] // samples_per_step[1]
    loop._iter = iteration
    return texts


def _refuse_schedules_by_iteration(loop: PretrainLoop, old: dict[str, Any], now: dict[str, Any]) -> None:
    schedules = loop.runner.cfg.get('param_scheduler') or []
    for i, schedule in enumerate(schedules if isinstance(schedules, list) else [schedules]):
        if not schedule.get('by_epoch', True):
            raise ValueError(
                f'Cannot resume: the global batch was {_global_batch(old)} and is {_global_batch(now)}, so an '
                f'epoch had {old["batches_per_epoch"]} batches and has {now["batches_per_epoch"]}, but '
                f'param_scheduler[{i}] ({schedule["type"]}, by_epoch=False) counts iterations. Give it in epochs, with '
                'by_epoch=True and convert_to_iter_based=True, or keep the global batch and the data.'
            )


def _rebuild_schedules(loop: EpochBasedTrainLoop) -> None:
    """Replace the resumed schedules by those of a fresh run at this iteration."""
    runner = loop.runner
    if not runner.param_schedulers:
        return
    if not isinstance(runner.param_schedulers, list):
        raise ValueError('Cannot resume: schedules of several optimizers cannot be moved to another iteration.')
    for group in runner.optim_wrapper.param_groups:
        for name in [name for name in group if name.startswith('initial_')]:
            group[name.removeprefix('initial_')] = group[name]
    runner.param_schedulers = runner.build_param_scheduler(copy.deepcopy(runner.cfg.param_scheduler))
    # All schedules step together: each computes its next value from the current one, which the others change too.
    for i in range(1, loop.iter + 1):
        ends_epoch = i % len(loop.dataloader) == 0 and i // len(loop.dataloader) <= loop.epoch
        for schedule in runner.param_schedulers:
            if not schedule.by_epoch or ends_epoch:
                schedule.step()
