"""Checks of what a Runner reads itself, beside the parts it builds: which sections go together, and plain settings."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.runner import Runner
from mmengine.runner.priority import get_priority

_PLAIN = (bool, int, float, str, dict, list, tuple)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        (
            'model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
            'optim_wrapper', 'default_hooks', 'auto_scale_lr', 'env_cfg', 'randomness', 'log_processor', 'visualizer',
            'model_wrapper_cfg', 'custom_imports',
        ),
        (dict,),
    ),
    **dict.fromkeys(('val_evaluator', 'test_evaluator', 'param_scheduler'), (dict, list)),
    **dict.fromkeys(('load_from', 'work_dir', 'experiment_name', 'default_scope'), (str,)),
    'custom_hooks': (list,),
    'resume': (bool,),
}  # fmt: skip
_TOGETHER = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)
# Keys of OpenMMLab's configs before 2022, which no Runner reads, and which nobody uses for variables of his own.
_OLD = {
    'checkpoint_config': 'default_hooks.checkpoint',
    'dist_params': 'env_cfg.dist_cfg',
    'evaluation': 'val_evaluator and train_cfg.val_interval',
    'log_config': 'default_hooks.logger',
    'lr_config': 'param_scheduler',
    'optimizer_config': 'optim_wrapper.clip_grad',
    'resume_from': 'resume and load_from',
    'runner': 'train_cfg',
}
_COUNTS = {'batch_size': 1, 'num_workers': 0, 'prefetch_factor': 1}
_SWITCHES = ('persistent_workers', 'pin_memory', 'drop_last')
_ENV_KEYS = ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')
_CLIP_KEYS = ('type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value')
_PARAMWISE_KEYS = (
    'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult',
    'dcn_offset_lr_mult', 'bypass_duplicate',
)  # fmt: skip
_LISTS_OF_PARTS = ('custom_hooks', 'param_scheduler', 'pipeline', 'transforms', 'vis_backends')
_PARTS = (
    'dataset', 'sampler', 'batch_sampler', 'optimizer', 'backbone', 'decode_head', 'image_encoder', 'image_projection',
    'text_encoder', 'text_projection',
)  # fmt: skip
_OF_OBJECTIVES = ('loss', 'mask', 'decoder')


def check_sections(top: dict[str, Any]) -> Iterator[str]:
    """Find sections of the wrong kind, sections without those they need, and wrong plain settings.

    Args:
        top: The config as plain dicts.

    Yields:
        What is wrong, with its place, what was found and what is expected.
    """
    kinds = list(_kinds(top))
    yield from kinds
    yield from (
        f'{key}: no Runner reads this key any more. Its settings are in {_OLD[key]}.' for key in top if key in _OLD
    )
    if isinstance(top.get('data'), dict) and 'samples_per_gpu' in top['data']:
        yield 'data: no Runner reads this key any more. Its settings are in train_dataloader, val_dataloader and so on.'
    if not kinds:  # else what follows would stumble over them
        yield from _together(top)
        yield from _settings(top)
        yield from _training(top)
        for mode in ('val', 'test'):
            yield from _tasks(mode, top.get(f'{mode}_dataloader'), top.get(f'{mode}_evaluator'))


def check_loader(loader: dict[str, Any], path: str) -> Iterator[str]:
    """Find wrong settings of a data loader, whose arguments torch does not annotate."""
    if not isinstance(loader.get('dataset'), dict) and isinstance(loader.get('dataset', ''), (*_PLAIN, type(None))):
        yield f'{path}.dataset: expected a dict with type, found {loader.get("dataset")!r:.200}.'
    for key, least in _COUNTS.items():
        value = loader.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            comma = ' Remove the comma after it.' if isinstance(value, tuple) and len(value) == 1 else ''
            yield f'{path}.{key}: expected a whole number of at least {least}, found {found(value)}.{comma}'
    for key in _SWITCHES:
        if not isinstance(loader.get(key, False), bool):
            yield f'{path}.{key}: expected True or False, found {found(loader[key])}.'
    if loader.get('num_workers', 0) == 0:
        for key in ('persistent_workers', 'prefetch_factor'):
            if loader.get(key):
                nothing = False if key == 'persistent_workers' else None
                yield f'{path}.{key}={loader[key]!r} needs num_workers above 0. Set it to {nothing} too.'


def lacks_type(node: dict[str, Any], path: str) -> Iterator[str]:
    """Say where a dict that a part is built from has no ``type``, or one that is neither a name nor a class."""
    *above, key = path.split('.')
    last = above[-1] if above else ''
    part = key in _PARTS or (key.isdigit() and (last in _LISTS_OF_PARTS or 'views' in above))
    of_objectives = path.startswith('model.objectives.') and (len(above) == 2 or key in _OF_OBJECTIVES)
    part = part or of_objectives or path == 'model'
    # With several optimizers it is a dict of lists.
    part = part or (path == 'param_scheduler' and not all(isinstance(value, (dict, list)) for value in node.values()))
    if 'type' not in node and (part or last == 'default_hooks'):
        names = ('checkpoint', 'logger', 'param_scheduler', 'preemption', 'runtime_info', 'sampler_seed', 'timer')
        near = difflib.get_close_matches(key, names, n=1, cutoff=0.6) if last == 'default_hooks' else []
        yield f'{path}: it has no type. ' + (f'Did you mean {near[0]}?' if near else f'Its keys: {", ".join(node)}.')
        return
    value = node.get('type', '')
    # A detector's record may hold a list of types; a part's is a name or a class.
    wrong = isinstance(value, (bool, int, float, type(None))) or (part and isinstance(value, (dict, list, tuple)))
    if wrong:
        yield f'{path}.type: expected the name of a part, found {found(value)}.'


def found(value: Any) -> str:
    """Type and value, for an error."""
    return f'{type(value).__name__} {value!r:.200}'


def _kinds(top: dict[str, Any]) -> Iterator[str]:
    for key, kinds in _KINDS.items():
        value = top.get(key)
        fits = isinstance(value, kinds) or (list in kinds and isinstance(value, tuple))
        if value is None or fits or not isinstance(value, _PLAIN):
            continue
        comma = isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], kinds)
        hint = ' Remove the comma after it.' if comma else ''
        yield f'{key}: expected a {" or ".join(kind.__name__ for kind in kinds)}, found {found(value)}.{hint}'


def _together(top: dict[str, Any]) -> Iterator[str]:
    for group in _TOGETHER:
        given = [key for key in group if top.get(key) is not None]
        for key in group if given else ():
            if key not in given:
                yield f'{key}: it is missing, but there is {" and ".join(given)}. A Runner takes all three or none.'
    if top.get('train_cfg') is not None and top.get('model') is None:
        yield 'model: it is missing, but there is train_cfg.'


def _settings(top: dict[str, Any]) -> Iterator[str]:
    level = top.get('log_level')
    if isinstance(level, str) and not isinstance(logging.getLevelName(level), int):
        yield f'log_level: expected DEBUG, INFO, WARNING or ERROR, found {level!r}.'
    randomness = top.get('randomness') or {}
    yield from _unknown('randomness', randomness, [*inspect.signature(Runner.set_randomness).parameters][1:])
    seed = randomness.get('seed')
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        yield f'randomness.seed: expected an int or None, found {found(seed)}.'
    yield from _unknown('env_cfg', top.get('env_cfg'), _ENV_KEYS)
    wrapper = top.get('optim_wrapper') or {}
    clip = wrapper.get('clip_grad')
    yield from _unknown('optim_wrapper.clip_grad', clip, _CLIP_KEYS)
    for key in ('max_norm', 'clip_value') if isinstance(clip, dict) else ():
        if not isinstance(clip.get(key, 0), (int, float)):
            yield f'optim_wrapper.clip_grad.{key}: expected a number, found {found(clip[key])}.'
    # Constructors may read keys of their own, so only near misses are refused.
    yield from _unknown('optim_wrapper.paramwise_cfg', wrapper.get('paramwise_cfg'), _PARAMWISE_KEYS, cutoff=0.85)
    for index, hook in enumerate(top.get('custom_hooks') or ()):
        try:
            get_priority(hook.get('priority', 'NORMAL') if isinstance(hook, dict) else 'NORMAL')
        except (KeyError, TypeError, ValueError):
            yield f'custom_hooks.{index}.priority: expected 0 to 100 or a name like HIGH, found {hook["priority"]!r}.'


def _training(top: dict[str, Any]) -> Iterator[str]:
    loop = top.get('train_cfg') or {}
    for key in ('max_epochs', 'max_iters'):
        if isinstance(loop.get(key), int) and loop[key] < 1:
            yield f'train_cfg.{key}: expected at least 1, found {loop[key]}.'
    kind = _name(loop)
    hooks = [*(top.get('custom_hooks') or ()), *(top.get('default_hooks') or {}).values()]
    pretrainer = kind == 'PretrainLoop' and _name(top.get('model')) == 'ImageTextPretrainer'
    if pretrainer and 'ModelStepHook' not in map(_name, hooks):
        yield (
            'custom_hooks: without ModelStepHook the teacher and the schedules of the objectives would stand still. A '
            "list replaces that of the base: begin it with dict(type='ModelStepHook'), dict(type='NonFiniteHook'), "
            "dict(type='BadSamplesHook')."
        )
    if kind != 'IterBasedTrainLoop':
        return
    # That loop has no end of an epoch at which they would move.
    schedules = top.get('param_scheduler') or ()
    for index, schedule in enumerate(schedules if isinstance(schedules, (list, tuple)) else [schedules]):
        if isinstance(schedule, dict) and 'type' in schedule and schedule.get('by_epoch', True):
            yield f'param_scheduler.{index}.by_epoch: it must be False, because train_cfg counts iterations.'


def _name(part: Any) -> str:
    """Name of the type of a part, without its scope."""
    kind = part.get('type') if isinstance(part, dict) else type(part)
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


def _tasks(mode: str, loader: Any, evaluator: Any) -> Iterator[str]:
    if isinstance(loader, dict) and 'dataset' not in loader and isinstance(evaluator, (list, tuple)):
        tasks = ', '.join(map(str, loader))
        yield f'{mode}_evaluator: expected a dict with one for each of the tasks {tasks}, found {found(evaluator)}.'
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


def _unknown(path: str, node: Any, known: Iterable[str], cutoff: float = 0.0) -> Iterator[str]:
    names = [*known]
    for key in sorted({*node} - {*names}) if isinstance(node, dict) else ():
        near = difflib.get_close_matches(key, names, n=1, cutoff=cutoff or 0.5)
        if near or not cutoff:
            yield f'{path}.{key}: nothing reads it. ' + (
                f'Did you mean {near[0]}?' if near else f'There are: {", ".join(names)}.'
            )
