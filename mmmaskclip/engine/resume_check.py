"""Going on with another number of processes or another batch size."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.dist import get_world_size
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from torch.utils.data import IterableDataset

from .loops.pretrain_loop import PretrainLoop

_NAMES = ('world_size', 'batch_size', 'accumulative_counts')


def check_resume(meta: dict[str, Any], loop: BaseLoop) -> None:
    """Let a resumed run go on from the samples seen when its batch has changed, with a warning, or refuse.

    To be called when everything else is resumed. Where iterations now stand for other numbers of samples,
    :class:`~mmmaskclip.engine.PretrainLoop` goes on at the iteration that has as many samples of its epoch behind it,
    rounded down; the schedules are those of a fresh run at that iteration, and ``steps_taken`` of the optimizer wrapper
    is scaled. With ``ResumableSampler`` the rest of the epoch is then exactly what was not seen; shards are divided
    otherwise, so that some samples of this one epoch come twice and others not. The learning rate is not scaled.

    mmengine's ``EpochBasedTrainLoop`` cannot start inside an epoch: it starts that epoch again.

    Args:
        meta: ``world_size``, ``batch_size`` (per process) and ``accumulative_counts`` of the run that was saved.
        loop: The training loop, at the iteration that was saved; changed in place, like its runner's schedules.

    Raises:
        ValueError: If the global batch has changed and the loop is not ``PretrainLoop``, or a schedule counts
            iterations.
    """
    runner = loop.runner
    now = {
        'world_size': get_world_size(),
        'batch_size': getattr(loop.dataloader.batch_sampler, 'batch_size', loop.dataloader.batch_size),
        'accumulative_counts': getattr(runner.optim_wrapper, '_accumulative_counts', 1),
    }
    changed = [f'{name} was {meta[name]} and is {now[name]}' for name in _NAMES if meta[name] != now[name]]
    pretrain = isinstance(loop, PretrainLoop)
    told = []
    old_iter = loop.iter
    if changed:
        if pretrain:
            told = _move(loop, meta, now)
        elif _global_batch(meta) != _global_batch(now):
            raise ValueError(
                f'Cannot resume: {", ".join(changed)}. Iterations of {type(loop).__name__} would stand for '
                f'{_global_batch(now)} samples instead of {_global_batch(meta)}. Keep world_size x batch_size, or '
                'start a new run with load_from.'
            )
        told = [f'{", ".join(changed)}.', *told, 'The learning rate is not scaled.']
    if not pretrain and isinstance(loop, EpochBasedTrainLoop) and loop.iter != loop.epoch * len(loop.dataloader):
        loop._iter = loop.epoch * len(loop.dataloader)
        told.append(f'{type(loop).__name__} cannot start inside an epoch: epoch {loop.epoch + 1} starts again.')
    if loop.iter != old_iter:
        _rebuild_schedules(loop)
    if told:
        runner.logger.warning(f'RESUMED WITH A DIFFERENCE: {" ".join(told)}')


def _global_batch(sizes: dict[str, Any]) -> int:
    return sizes['world_size'] * sizes['batch_size']


def _move(loop: PretrainLoop, old: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Put the loop where as many samples of the epoch are behind it; returns what to tell."""
    batches = _batches_per_epoch(loop, old)
    if batches != len(loop.dataloader):
        _refuse_schedules_by_iteration(loop, old, now)
    done = min(max(loop.iter - loop.epoch * batches, 0), batches)
    seen = done * _global_batch(old)
    iteration = loop.epoch * len(loop.dataloader) + min(seen // _global_batch(now), len(loop.dataloader))
    told = [
        f'Going on in epoch {loop.epoch + 1} after {seen} of its samples: iteration {loop.iter} is now {iteration}.'
    ]
    if isinstance(loop.dataloader.dataset, IterableDataset) and done < batches:
        told.append('In the rest of this epoch some samples come twice and others not at all.')
    wrapper = loop.runner.optim_wrapper
    if hasattr(wrapper, 'steps_taken'):
        samples_per_step = [_global_batch(sizes) * sizes['accumulative_counts'] for sizes in (old, now)]
        wrapper.steps_taken = wrapper.steps_taken * samples_per_step[0] // samples_per_step[1]
    loop._iter = iteration
    return told


def _batches_per_epoch(loop: PretrainLoop, sizes: dict[str, Any]) -> int:
    dataset: Any = loop.dataloader.dataset
    length = len(dataset)
    if isinstance(dataset, IterableDataset):
        total = getattr(dataset, 'total_samples', length * get_world_size())
        return total // sizes['world_size'] // sizes['batch_size']
    return -(-length // sizes['world_size']) // sizes['batch_size']


def _refuse_schedules_by_iteration(loop: PretrainLoop, old: dict[str, Any], now: dict[str, Any]) -> None:
    schedules = loop.runner.cfg.get('param_scheduler') or []
    for i, schedule in enumerate(schedules if isinstance(schedules, list) else [schedules]):
        if not schedule.get('by_epoch', True):
            raise ValueError(
                f'Cannot resume: the global batch was {_global_batch(old)} and is {_global_batch(now)}, but '
                f'param_scheduler[{i}] ({schedule["type"]}, by_epoch=False) counts iterations. Give it in epochs, with '
                'by_epoch=True and convert_to_iter_based=True, or keep the global batch.'
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
    # Together, because each computes its next value from what the others left.
    for i in range(1, loop.iter + 1):
        ends_epoch = i % len(loop.dataloader) == 0 and i // len(loop.dataloader) <= loop.epoch
        for schedule in runner.param_schedulers:
            if not schedule.by_epoch or ends_epoch:
                schedule.step()
