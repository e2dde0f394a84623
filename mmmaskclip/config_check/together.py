"""Finds sections that do not go together: one without those it needs, tasks without a metric, hooks left out."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from typing import Any

from mmengine.runner.priority import get_priority

_GROUPS = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)


def check_together(top: dict[str, Any]) -> Iterator[str]:
    """Compare the sections of a config whose kinds are right.

    Args:
        top: The config as plain dicts.

    Yields:
        What is wrong, with its place and what is expected.
    """
    for group in _GROUPS:
        given = [key for key in group if top.get(key) is not None]
        for key in group if given else ():
            if key not in given:
                yield f'{key}: it is missing, but there is {" and ".join(given)}. A Runner takes all three or none.'
    if top.get('train_cfg') is not None and top.get('model') is None:
        yield 'model: it is missing, but there is train_cfg.'
    level = top.get('log_level')
    if isinstance(level, str) and not isinstance(logging.getLevelName(level), int):
        yield f'log_level: expected DEBUG, INFO, WARNING or ERROR, found {level!r}.'
    yield from _hooks(top)
    yield from _schedules(top)
    yield from _image_size(top)
    for mode in ('val', 'test'):
        yield from _tasks(mode, top.get(f'{mode}_dataloader'), top.get(f'{mode}_evaluator'))


def _hooks(top: dict[str, Any]) -> Iterator[str]:
    custom = [hook for hook in top.get('custom_hooks') or () if isinstance(hook, dict)]
    for index, hook in enumerate(custom):
        try:
            get_priority(hook.get('priority', 'NORMAL'))
        except (KeyError, TypeError, ValueError):
            yield f'custom_hooks.{index}.priority: expected 0 to 100 or a name like HIGH, found {hook["priority"]!r}.'
    names = map(_name, [*custom, *(top.get('default_hooks') or {}).values()])
    pretrains = _name(top.get('train_cfg')) == 'PretrainLoop' and _name(top.get('model')) == 'ImageTextPretrainer'
    if pretrains and 'ModelStepHook' not in names:
        yield (
            'custom_hooks: without ModelStepHook the teacher and the schedules of the objectives would stand still. A '
            "list replaces that of the base: begin it with dict(type='ModelStepHook'), dict(type='NonFiniteHook'), "
            "dict(type='BadSamplesHook')."
        )


def _schedules(top: dict[str, Any]) -> Iterator[str]:
    loop = top.get('train_cfg') or {}
    for key in ('max_epochs', 'max_iters'):
        if isinstance(loop.get(key), int) and loop[key] < 1:
            yield f'train_cfg.{key}: expected at least 1, found {loop[key]}.'
    if _name(loop) != 'IterBasedTrainLoop':
        return
    # That loop has no end of an epoch at which they would move.
    schedules = top.get('param_scheduler') or ()
    for index, schedule in enumerate(schedules if isinstance(schedules, (list, tuple)) else [schedules]):
        if isinstance(schedule, dict) and 'type' in schedule and schedule.get('by_epoch', True):
            yield f'param_scheduler.{index}.by_epoch: it must be False, because train_cfg counts iterations.'


def _image_size(top: dict[str, Any]) -> Iterator[str]:
    """Compare the size of the training crops with that of the image tower, which would refuse them in step 1."""
    size = _at(top, 'model', 'image_encoder', 'img_size')
    steps = _at(top, 'train_dataloader', 'dataset', 'views', 'image')
    if size is None or not isinstance(steps, (list, tuple)):
        return
    sized = [(i, step['size']) for i, step in enumerate(steps) if isinstance(step, dict) and step.get('size')]
    crops = [(i, crop) for i, crop in sized if _name(steps[i]) in ('RandomResizedCrop', 'CenterCrop', 'RandomCrop')]
    if crops and _square(crops[-1][1]) != _square(size):
        yield (
            f'train_dataloader.dataset.views.image.{crops[-1][0]}.size={crops[-1][1]!r}: the image tower takes '
            f'model.image_encoder.img_size={size!r}. Set both to one size.'
        )


def _at(node: Any, *keys: str) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _square(size: Any) -> list[Any]:
    sides = list(size) if isinstance(size, (list, tuple)) else [size]
    return sides * 2 if len(sides) == 1 else sides


def _tasks(mode: str, loader: Any, evaluator: Any) -> Iterator[str]:
    if isinstance(loader, dict) and 'dataset' not in loader and isinstance(evaluator, (list, tuple)):
        tasks = ', '.join(map(str, loader))
        yield f'{mode}_evaluator: expected a dict with one for each of the tasks {tasks}, found a list.'
    if not isinstance(loader, dict) or not isinstance(evaluator, dict):
        return
    if 'dataset' in loader:
        if 'type' not in evaluator and 'metrics' not in evaluator:
            yield f'{mode}_evaluator: it has no type. Its keys: {", ".join(evaluator)}.'
        return
    for name in sorted({*loader} ^ {*evaluator}):
        other = 'evaluator' if name in loader else 'dataloader'
        near = difflib.get_close_matches(name, evaluator if name in loader else loader, n=1, cutoff=0.5)
        hint = f' Did you mean {near[0]}?' if near else ''
        yield f'{mode}_{other}: there is none for the task {name!r}.{hint}'


def _name(part: Any) -> str:
    """Name of the type of a part, without its scope."""
    kind = part.get('type') if isinstance(part, dict) else type(part)
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2].rpartition('/')[2]
