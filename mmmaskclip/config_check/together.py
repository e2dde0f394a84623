"""Finds sections of a config that contradict each other or lack one that they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.utils import to_2tuple

from mmmaskclip.engine.loops.evaluation_loop import compare_tasks

_CROPS = ('RandomResizedCrop', 'CenterCrop', 'RandomCrop')


def check_together(top: dict[str, Any]) -> Iterator[str]:
    """Say which sections of a config, whose values have the right types, contradict or lack each other."""
    for mode, third in (('train', 'optim_wrapper'), ('val', 'val_evaluator'), ('test', 'test_evaluator')):
        group = (f'{mode}_dataloader', f'{mode}_cfg', third)
        given = [key for key in group if key in top]
        for key in group if given else ():
            if key not in top:
                yield f'{key}: it is missing, but there is {" and ".join(given)}. A Runner takes all three or none.'
    for mode in ('val', 'test'):
        loader, evaluator = top.get(f'{mode}_dataloader'), top.get(f'{mode}_evaluator')
        if isinstance(loader, dict) and 'dataset' not in loader and evaluator is not None:
            yield from compare_tasks(loader, evaluator, f'{mode}_')
    if 'train_cfg' not in top:
        return
    if 'model' not in top:
        yield 'model: it is missing, but there is train_cfg.'
    hooks = map(_name, [*top.get('custom_hooks', ()), *top.get('default_hooks', {}).values()])
    loop = _name(top['train_cfg'])
    if loop == 'PretrainLoop' and _name(top.get('model')) == 'ImageTextPretrainer' and 'ModelStepHook' not in hooks:
        yield (
            'custom_hooks: without ModelStepHook the teacher and the schedules of the objectives would stand still. A '
            "list replaces that of the base: begin it with dict(type='ModelStepHook'), dict(type='NonFiniteHook'), "
            "dict(type='BadSamplesHook')."
        )
    schedules = top.get('param_scheduler', ())
    for index, schedule in enumerate(schedules if isinstance(schedules, (list, tuple)) else [schedules]):
        # A loop over iterations never ends an epoch, for which such a schedule waits.
        if loop == 'IterBasedTrainLoop' and 'type' in schedule and schedule.get('by_epoch', True):
            yield f'param_scheduler.{index}.by_epoch: it must be False, because train_cfg counts iterations.'
    yield from _image_size(top)


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


def _name(part: Any) -> str:
    """Name of the type of a part, without its scope."""
    kind = part.get('type') if isinstance(part, dict) else type(part)
    return (kind.__name__ if isinstance(kind, type) else str(kind)).rpartition('.')[2].rpartition('/')[2]
