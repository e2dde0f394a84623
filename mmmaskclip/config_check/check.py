"""Finds mistakes in a config before anything is built: unknown keys, types of parts, values of a wrong kind.

mmengine builds parts one by one, some of them after the data has been indexed and the weights loaded, and merges a key
that nothing reads without a word.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

from mmengine import registry as root
from mmengine.config import Config
from mmengine.registry import Registry

from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.config_check.keys import DEFAULT_HOOKS, LOADER_KEYS, OLD_KEYS, RUNNER_KEYS, Key, key_at
from mmmaskclip.config_check.parts import arguments_of, find_part, part_names, wrong_type
from mmmaskclip.config_check.together import check_together
from mmmaskclip.startup.dependencies import missing_toolbox
from mmmaskclip.utils.nearest import did_you_mean

# By registry: keys that mmengine takes away before it builds the part, and arguments that it adds then. Elsewhere,
# arguments without a default may come from the part around it.
_TAKEN = {
    root.HOOKS: {'priority'},
    root.LOOPS: {'by_epoch'},
    root.OPTIM_WRAPPERS: {'constructor', 'paramwise_cfg', 'optimizer'},
    root.PARAM_SCHEDULERS: {'convert_to_iter_based'},
}
_ADDED: dict[Registry | None, set[str]] = {
    root.HOOKS: set(),
    root.LOOPS: {'runner', 'dataloader', 'evaluator'},
    root.OPTIMIZERS: {'params'},
    root.PARAM_SCHEDULERS: {'optimizer', 'param_name'},
    root.TRANSFORMS: set(),
}
_ALWAYS = {'type', '_scope_'}
_PLAIN = (bool, int, float, str, dict, list, tuple)
_WORDS = {dict: 'a dict', list: 'a list', str: 'text', bool: 'True or False', int: 'a whole number', float: 'a number'}
_MOST = 10


def check_config(cfg: Config) -> None:
    """Check sections, keys, types of parts and kinds of values. Nothing is built; the parts' packages are imported.

    Each key that a Runner reads is compared with :data:`~mmmaskclip.config_check.keys.KEYS`. Every dict with ``type``
    below it is looked up in the registries of the config's scope, and its keys are compared with the arguments of what
    it names, with those of its base classes where it passes ``**kwargs`` on. Where that cannot be followed, only keys
    close to an argument are refused. Keys of plain dicts (``test_cfg`` of a detector) are free, and so are further
    variables at the top, unless they resemble a Runner's key.

    Args:
        cfg: The config, with its options merged.

    Raises:
        ConfigMistake: Names each unknown key, unknown type and value of a wrong kind, and the nearest valid one. Where
            a toolbox is not installed, it says only that, and how to install it.
    """
    top = cfg._cfg_dict.to_dict()
    # A config of a model alone says no scope.
    scope = top.get('default_scope') or 'mmmaskclip'
    if missing := missing_toolbox({str(scope), *re.findall(r"'type': '(\w+)\.", repr(top))}):
        raise ConfigMistake(missing)
    problems = list(_top_level(top))
    if not any(_wrong_kind(top.get(key), key) for key in RUNNER_KEYS):  # else what compares sections would stumble
        problems += check_together(top)
    for key in RUNNER_KEYS:
        problems += _walk(top.get(key), key, None, scope)
    refuse(problems)


def refuse(problems: list[str]) -> None:
    """Raise ConfigMistake with what is wrong, one line each; nothing where nothing is."""
    if problems:
        more = [f'... and {len(problems) - _MOST} more'] if len(problems) > _MOST else []
        raise ConfigMistake('the config is wrong, nothing was started:\n  ' + '\n  '.join([*problems[:_MOST], *more]))


def _top_level(top: dict[str, Any]) -> Iterator[str]:
    """Say which variables are keys of older versions, or resemble one that a Runner reads."""
    for key, value in top.items():
        hint = did_you_mean(key, RUNNER_KEYS, cutoff=0.9)
        if key in OLD_KEYS or (key == 'data' and isinstance(value, dict) and 'samples_per_gpu' in value):
            place = OLD_KEYS.get(key, 'train_dataloader, val_dataloader and so on')
            yield f'{key}: no Runner reads this key any more. Its settings are in {place}.'
        elif key not in RUNNER_KEYS and hint and not callable(value):
            yield f'{key}: no Runner reads this key.{hint}'


def _walk(node: Any, path: str, registry: Registry | None, scope: str) -> Iterator[str]:
    """Check a node of the config and all below it."""
    key = key_at(path)
    registry = key.registry or registry
    if problem := _wrong_kind(node, path):
        yield problem
    elif key.checked == 'nothing':
        return
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _walk(value, f'{path}.{index}', registry, scope)
    elif isinstance(node, str) and registry is not None and key.checked == 'names':
        yield from _part({'type': node}, path, registry, scope, key)
    elif isinstance(node, dict):
        scope = node.get('_scope_') or scope
        if key.known:
            yield from _unknown(path, {*node} - {*key.known}, key.known, strict=key.strict)
        if key.checked != 'values':
            yield from _type(node, path, registry, scope, key)
        if path.endswith('_dataloader') or 'num_workers' in node:
            yield from _loader(node, path)
        for name, value in node.items():
            yield from _walk(value, f'{path}.{name}', None, scope)


def _wrong_kind(value: Any, path: str) -> str | None:
    """Say what the table expects at a place, if a plain value there is not that."""
    key = key_at(path)
    if value is None or not key.kinds or not isinstance(value, _PLAIN):
        return None
    right = isinstance(value, key.kinds) or (list in key.kinds and isinstance(value, tuple))
    if right and (bool in key.kinds or not isinstance(value, bool)) and key.fits(value):
        return None
    words = key.expected or ' or '.join(_WORDS[kind] for kind in key.kinds if kind is not int or float not in key.kinds)
    comma = isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], key.kinds)
    return f'{path}: expected {words}, {_found(value)}.{" Remove the comma after it." if comma else ""}'


def _found(value: Any) -> str:
    return f'found {type(value).__name__} {value!r:.200}'


def _type(node: dict[str, Any], path: str, registry: Registry | None, scope: str, key: Key) -> Iterator[str]:
    """Check the ``type`` of a dict and, where it names a part, the part's arguments."""
    kind = node.get('type', '')
    # Several optimizers have a dict of lists.
    several = path == 'param_scheduler' and all(isinstance(value, (dict, list)) for value in node.values())
    if 'type' not in node and key.is_part and not several:
        section, _, name = path.partition('.')
        hint = did_you_mean(name, DEFAULT_HOOKS) if section == 'default_hooks' else ''
        yield f'{path}: it has no type.' + (hint or f' Its keys: {", ".join(node)}.')
    # A detector's record may hold a list of types; a part's is a name or a class.
    elif isinstance(kind, (bool, int, float, type(None))) or (key.is_part and isinstance(kind, (dict, list, tuple))):
        yield f'{path}.type: expected the name of a part, {_found(kind)}.'
    elif isinstance(kind, str) and kind:
        yield from _part(node, path, registry, scope, key)


def _loader(loader: dict[str, Any], path: str) -> Iterator[str]:
    """Check a data loader, whose arguments torch does not annotate; a suite of tasks holds one for each."""
    if 'dataset' not in loader and all(isinstance(value, dict) for value in loader.values()):
        for name, task in loader.items():
            yield from _loader(task, f'{path}.{name}') if 'num_workers' not in task else ()
        return
    yield from _unknown(path, {*loader} - {*LOADER_KEYS}, LOADER_KEYS, 'a data loader has no such argument')
    if loader.get('dataset') is None:
        yield f'{path}.dataset: expected a dict with type, found {loader.get("dataset")!r}.'
    for key, off in (('persistent_workers', False), ('prefetch_factor', None)):
        if loader.get(key) and loader.get('num_workers', 0) == 0:
            yield f'{path}.{key}={loader[key]!r} needs num_workers above 0. Set it to {off} too.'


def _part(node: dict[str, Any], path: str, registry: Registry | None, scope: str, key: Key) -> Iterator[str]:
    """Check the name and the arguments of a part."""
    name = node['type']
    cls, where = find_part(name, registry, scope)
    if cls is None:
        hint = did_you_mean(name, part_names(name, registry, scope), most=3) or ' Is its package in custom_imports?'
        yield f'{path}.type={name!r}: nothing of this name is registered in {scope}.{hint}'
    takes = arguments_of(cls) if cls is not None and key.checked == 'parts' else None
    if takes is None:
        return
    unknown = {*node} - {*takes.defaults, *(_TAKEN.get(where, ()) if where else ()), *_ALWAYS}
    yield from _unknown(path, unknown, takes.defaults, f'{name} has no such argument', takes.complete)
    for argument, default in takes.defaults.items():
        value = node.get(argument)
        if argument not in node:
            if default is inspect.Parameter.empty and takes.complete and argument not in _ADDED.get(where, {argument}):
                yield f'{path}.{argument}: it is missing; {name} has no default for it.'
            continue
        # mmengine multiplies epochs by the iterations of one and rounds.
        rounded = node.get('convert_to_iter_based') and argument in ('begin', 'end', 'T_max')
        expected = wrong_type(value, takes.annotations[argument], default)
        in_table = value is not None and key_at(f'{path}.{argument}').kinds  # the table of keys says more
        if expected and not in_table and argument not in _ALWAYS and not (rounded and isinstance(value, float)):
            yield f'{path}.{argument}: {name} takes {expected}, {_found(value)}.'


def _unknown(
    path: str, keys: Iterable[str], known: Iterable[str], text: str = 'nothing reads it', strict: bool = True
) -> Iterator[str]:
    """Say which keys nothing reads; where not strict, only those that resemble one that is read."""
    names = sorted({*known} - _ALWAYS)
    for key in sorted(map(str, keys)):
        close = did_you_mean(key, names, cutoff=0.75)
        if strict or close:
            hint = did_you_mean(key, names, most=2, cutoff=0.5) or f' There are: {", ".join(names) or "none"}.'
            inherited = '' if close else ' If it comes from a base config, _delete_=True keeps it out.'
            yield f'{path}.{key}: {text}.{hint}{inherited}'
