"""Which sections of a config a run needs together. They are compared before anything is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.utils import to_2tuple

from mmmaskclip.engine.loops.evaluation_loop import compare_tasks

_CROPS = ('RandomResizedCrop', 'CenterCrop', 'RandomCrop')


def compare_sections(top: dict[str, Any]) -> Iterator[str]:
    """Say which sections of a config contradict or lack each other.

    Args:
        top: The config, without keys that are None. Its sections have the types that the Runner takes.
    """
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
    if not isinstance(top.get('train_cfg'), dict):
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
        if not isinstance(schedule, dict) or 'type' not in schedule:
            continue
        in_epochs, begin, end = schedule.get('by_epoch', True), schedule.get('begin', 0), schedule.get('end')
        # A loop over iterations never ends an epoch, for which such a schedule waits.
        if loop == 'IterBasedTrainLoop' and in_epochs:
            yield f'param_scheduler.{index}.by_epoch: it must be False, because train_cfg counts iterations.'
        # One without an end is left out of a run that ends before it begins, with a warning.
        elif isinstance(begin, (int, float)) and isinstance(end, (int, float)) and begin >= end:
            yield f'param_scheduler.{index}.begin={begin}: it must be less than its end={end}. Change one of them.'
    yield from _image_size(top)


def _image_size(top: dict[str, Any]) -> Iterator[str]:
    """Compare the size of the training crops with that of the image tower, which would refuse them in step 1."""
    try:
        size, steps = top['model']['image_encoder']['img_size'], top['train_dataloader']['dataset']['views']['image']
        sizes = [(index, step.get('size')) for index, step in enumerate(steps) if _name(step) in _CROPS]
        index, crop = [pair for pair in sizes if pair[1]][-1]
    except (KeyError, TypeError, IndexError):
        return
    if ([*to_2tuple(crop)] * 2)[:2] != ([*to_2tuple(size)] * 2)[:2]:  # of a list of one number, too
        path = f'train_dataloader.dataset.views.image.{index}.size'
        yield f'{path}={crop!r}: the image tower takes model.image_encoder.img_size={size!r}. Set both to one size.'


def _name(part: Any) -> str:
    """Name of the type of a part, without its scope."""
    kind = part.get('type') if isinstance(part, dict) else type(part)
    return (kind.__name__ if isinstance(kind, type) else str(kind)).rpartition('.')[2].rpartition('/')[2]
