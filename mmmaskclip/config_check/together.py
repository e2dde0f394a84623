"""Finds sections that do not go together: one without those it needs, tasks without a metric, hooks left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.utils import to_2tuple

from mmmaskclip.utils.nearest import did_you_mean

_GROUPS = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)
_CROPS = ('RandomResizedCrop', 'CenterCrop', 'RandomCrop')


def check_together(top: dict[str, Any]) -> Iterator[str]:
    """Say which sections of a config, whose kinds are right, do not go together, and what is expected."""
    for group in _GROUPS:
        given = [key for key in group if top.get(key) is not None]
        for key in group if given else ():
            if key not in given:
                yield f'{key}: it is missing, but there is {" and ".join(given)}. A Runner takes all three or none.'
    if top.get('train_cfg') is not None and top.get('model') is None:
        yield 'model: it is missing, but there is train_cfg.'
    yield from _hooks(top)
    yield from _schedules(top)
    yield from _image_size(top)
    for mode in ('val', 'test'):
        yield from _tasks(mode, top.get(f'{mode}_dataloader'), top.get(f'{mode}_evaluator'))


def _hooks(top: dict[str, Any]) -> Iterator[str]:
    names = map(_name, [*(top.get('custom_hooks') or ()), *(top.get('default_hooks') or {}).values()])
    pretrains = _name(top.get('train_cfg')) == 'PretrainLoop' and _name(top.get('model')) == 'ImageTextPretrainer'
    if pretrains and 'ModelStepHook' not in names:
        yield (
            'custom_hooks: without ModelStepHook the teacher and the schedules of the objectives would stand still. A '
            "list replaces that of the base: begin it with dict(type='ModelStepHook'), dict(type='NonFiniteHook'), "
            "dict(type='BadSamplesHook')."
        )


def _schedules(top: dict[str, Any]) -> Iterator[str]:
    """Find schedules that wait for the end of an epoch, which a loop over iterations does not have."""
    schedules = top.get('param_scheduler') or ()
    for index, schedule in enumerate(schedules if isinstance(schedules, (list, tuple)) else [schedules]):
        by_epoch = isinstance(schedule, dict) and 'type' in schedule and schedule.get('by_epoch', True)
        if by_epoch and _name(top.get('train_cfg')) == 'IterBasedTrainLoop':
            yield f'param_scheduler.{index}.by_epoch: it must be False, because train_cfg counts iterations.'


def _image_size(top: dict[str, Any]) -> Iterator[str]:
    """Compare the size of the training crops with that of the image tower, which would refuse them in step 1."""
    try:
        size, steps = top['model']['image_encoder']['img_size'], top['train_dataloader']['dataset']['views']['image']
        crops = [index for index, step in enumerate(steps) if _name(step) in _CROPS and step.get('size')]
    except (KeyError, TypeError):
        return
    crop = steps[crops[-1]]['size'] if crops else size
    if ([*to_2tuple(crop)] * 2)[:2] != ([*to_2tuple(size)] * 2)[:2]:  # of a list of one number, too
        yield (
            f'train_dataloader.dataset.views.image.{crops[-1]}.size={crop!r}: the image tower takes '
            f'model.image_encoder.img_size={size!r}. Set both to one size.'
        )


def _tasks(mode: str, loader: Any, evaluator: Any) -> Iterator[str]:
    """Compare the tasks of the data with those of the metrics."""
    if not isinstance(loader, dict):
        return
    if 'dataset' in loader:
        if isinstance(evaluator, dict) and not {'type', 'metrics'} & {*evaluator}:
            yield f'{mode}_evaluator: it has no type. Its keys: {", ".join(evaluator)}.'
    elif isinstance(evaluator, (list, tuple)):
        tasks = ', '.join(map(str, loader))
        yield f'{mode}_evaluator: expected a dict with one for each of the tasks {tasks}, found a list.'
    elif isinstance(evaluator, dict):
        for name in sorted({*loader} ^ {*evaluator}):
            other = 'evaluator' if name in loader else 'dataloader'
            hint = did_you_mean(name, evaluator if name in loader else loader, cutoff=0.5)
            yield f'{mode}_{other}: there is none for the task {name!r}.{hint}'


def _name(part: Any) -> str:
    """Name of the type of a part, without its scope."""
    kind = part.get('type') if isinstance(part, dict) else type(part)
    return (kind.__name__ if isinstance(kind, type) else str(kind)).rpartition('.')[2].rpartition('/')[2]
