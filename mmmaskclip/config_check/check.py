"""Finds mistakes in a config before anything is built: unknown keys, types of parts, values of a wrong kind.

mmengine builds parts one by one, some of them after the data has been indexed and the weights loaded, and merges a key
that nothing reads without a word.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import torchvision
from mmengine import registry as root
from mmengine.config import Config
from mmengine.registry import Registry

from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.config_check.arguments import Arguments, arguments_of, wrong_type
from mmmaskclip.config_check.keys import LOADER_KEYS, OLD_KEYS, RUNNER_KEYS, Key, key_at
from mmmaskclip.config_check.together import check_together
from mmmaskclip.startup.dependencies import missing_toolbox

# Keys that mmengine takes away before it builds the part, by its registry.
_TAKEN = {
    root.HOOKS: {'priority'},
    root.LOOPS: {'by_epoch'},
    root.OPTIM_WRAPPERS: {'constructor', 'paramwise_cfg', 'optimizer'},
    root.PARAM_SCHEDULERS: {'convert_to_iter_based'},
}
_ALWAYS = {'type', '_scope_'}
# What mmengine adds to a part's config when it builds it, where that is always the same; elsewhere, arguments without a
# default may come from the part around it.
_GIVEN = {
    root.HOOKS: set(),
    root.LOOPS: {'runner', 'dataloader', 'evaluator'},
    root.OPTIMIZERS: {'params'},
    root.PARAM_SCHEDULERS: {'optimizer', 'param_name'},
    root.TRANSFORMS: set(),
}
_DEFAULT_HOOKS = ('checkpoint', 'logger', 'param_scheduler', 'preemption', 'runtime_info', 'sampler_seed', 'timer')
# mmcv's operators, which detectors name by ``type`` too.
_OPERATORS = ('nms', 'soft_nms', 'batched_nms', 'RoIAlign', 'RoIPool', 'nms_match', 'nms_rotated')
_REGISTRIES = [value for value in vars(root).values() if isinstance(value, Registry)]
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
    if missing := missing_toolbox({str(scope), *_scopes(top)}):
        raise ConfigMistake(missing)
    problems = [*_top_level(top), *_constructor(top, scope)]
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


def found(value: Any) -> str:
    """Type and value, for an error."""
    return f'{type(value).__name__} {value!r:.200}'


def _scopes(node: Any) -> Iterator[str]:
    """Give the scopes of all types below a node."""
    if isinstance(node, dict) and isinstance(node.get('type'), str):
        yield node['type'].partition('.')[0]
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from _scopes(value)


def _top_level(top: dict[str, Any]) -> Iterator[str]:
    for key, value in top.items():
        near = difflib.get_close_matches(key, RUNNER_KEYS, n=1, cutoff=0.9)
        if key in OLD_KEYS:
            yield f'{key}: no Runner reads this key any more. Its settings are in {OLD_KEYS[key]}.'
        elif key not in RUNNER_KEYS and near and not callable(value):
            yield f'{key}: no Runner reads this key. Did you mean {near[0]}?'
    if isinstance(top.get('data'), dict) and 'samples_per_gpu' in top['data']:
        yield 'data: no Runner reads this key any more. Its settings are in train_dataloader, val_dataloader and so on.'


def _constructor(top: dict[str, Any], scope: str) -> Iterator[str]:
    wrapper = top.get('optim_wrapper')
    if isinstance(wrapper, dict) and isinstance(wrapper.get('constructor'), str):
        node, path = {'type': wrapper['constructor']}, 'optim_wrapper.constructor'
        yield from _part(node, path, root.OPTIM_WRAPPER_CONSTRUCTORS, scope, Key(checked='names'))


def _walk(node: Any, path: str, registry: Registry | None, scope: str) -> Iterator[str]:
    """Check a node of the config and all below it."""
    key = key_at(path)
    registry = key.registry or registry
    if problem := _wrong_kind(node, path):
        yield problem
        return
    if key.checked == 'nothing':
        return
    if isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _walk(value, f'{path}.{index}', registry, scope)
    if not isinstance(node, dict):
        return
    scope = node.get('_scope_') or scope
    if key.known:
        yield from _unknown(path, {*node} - {*key.known}, key.known, strict=key.strict)
    if key.checked != 'values':
        yield from _wrong_type_name(node, path, key)
        if isinstance(node.get('type'), str):
            yield from _part(node, path, registry, scope, key)
    if path.rpartition('.')[2].endswith('_dataloader') or 'num_workers' in node:
        yield from _loader(node, path)
    for name, value in node.items():
        yield from _walk(value, f'{path}.{name}', None, scope)


def _wrong_kind(value: Any, path: str) -> str | None:
    """Say what the table expects at a place, if a plain value there is not that."""
    key = key_at(path)
    if value is None or not key.kinds or not isinstance(value, _PLAIN):
        return None
    fits = isinstance(value, key.kinds) or (list in key.kinds and isinstance(value, tuple))
    fits = fits and (bool in key.kinds or not isinstance(value, bool))
    if fits and (key.least is None or value >= key.least):
        return None
    words = ' or '.join(_WORDS[kind] for kind in key.kinds if not (kind is int and float in key.kinds))
    least = f' of at least {key.least}' if key.least is not None else ''
    comma = isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], key.kinds)
    hint = ' Remove the comma after it.' if comma else ''
    return f'{path}: expected {words}{least}, found {found(value)}.{hint}'


def _wrong_type_name(node: dict[str, Any], path: str, key: Key) -> Iterator[str]:
    """Say where a dict that a part is built from has no ``type``, or one that is neither a name nor a class."""
    # With several optimizers it is a dict of lists.
    several = path == 'param_scheduler' and all(isinstance(value, (dict, list)) for value in node.values())
    if 'type' not in node and key.is_part and not several:
        section, _, name = path.partition('.')
        near = difflib.get_close_matches(name, _DEFAULT_HOOKS, n=1, cutoff=0.6) if section == 'default_hooks' else []
        yield f'{path}: it has no type. ' + (f'Did you mean {near[0]}?' if near else f'Its keys: {", ".join(node)}.')
    kind = node.get('type', '')
    # A detector's record may hold a list of types; a part's is a name or a class.
    if isinstance(kind, (bool, int, float, type(None))) or (key.is_part and isinstance(kind, (dict, list, tuple))):
        yield f'{path}.type: expected the name of a part, found {found(kind)}.'


def _loader(loader: dict[str, Any], path: str) -> Iterator[str]:
    """Check a data loader, whose arguments torch does not annotate; a suite of tasks holds one for each."""
    if 'dataset' not in loader and all(isinstance(value, dict) for value in loader.values()):
        for name, task in loader.items():
            yield from _loader(task, f'{path}.{name}') if 'num_workers' not in task else ()
        return
    yield from _unknown(path, {*loader} - {*LOADER_KEYS}, LOADER_KEYS, 'a data loader has no such argument')
    if loader.get('dataset') is None:
        yield f'{path}.dataset: expected a dict with type, found {loader.get("dataset")!r}.'
    if loader.get('num_workers', 0) == 0:
        for key, off in (('persistent_workers', False), ('prefetch_factor', None)):
            if loader.get(key):
                yield f'{path}.{key}={loader[key]!r} needs num_workers above 0. Set it to {off} too.'


def _part(node: dict[str, Any], path: str, registry: Registry | None, scope: str, key: Key) -> Iterator[str]:
    """Check the name and the arguments of a part."""
    name = node['type']
    cls, where = _resolve(name, registry, scope)
    if cls is None and name not in _OPERATORS:
        near = difflib.get_close_matches(name, _names(registry, scope, name), n=3, cutoff=0.6)
        hint = f'Did you mean {" or ".join(near)}?' if near else 'Is its package in custom_imports?'
        yield f'{path}.type={name!r}: nothing of this name is registered in {scope}. {hint}'
    known = arguments_of(cls) if cls is not None and key.checked == 'parts' else None
    if known is None:
        return
    allowed = {*known.arguments, *(_TAKEN.get(where, ()) if where else ()), *_ALWAYS}
    yield from _unknown(path, {*node} - allowed, known.arguments, f'{name} has no such argument', known.complete)
    yield from _missing(node, path, known, where)
    for argument, says in known.arguments.items():
        value = node.get(argument)
        # mmengine multiplies epochs by the iterations of one and rounds.
        fraction = (
            isinstance(value, float) and node.get('convert_to_iter_based') and argument in ('begin', 'end', 'T_max')
        )
        if argument in node and argument not in _ALWAYS and not fraction and (expected := wrong_type(value, says)):
            yield f'{path}.{argument}: {name} takes {expected}, found {found(value)}.'


def _missing(node: dict[str, Any], path: str, known: Arguments, where: Registry | None) -> Iterator[str]:
    if where not in _GIVEN or not known.complete:
        return
    for key, argument in known.arguments.items():
        if argument.default is inspect.Parameter.empty and key not in {*node, *_GIVEN[where]}:
            yield f'{path}.{key}: it is missing; {node["type"]} has no default for it.'


def _unknown(
    path: str, keys: Iterable[str], known: Iterable[str], text: str = 'nothing reads it', strict: bool = True
) -> Iterator[str]:
    """Say which keys nothing reads; where not strict, only those that resemble one that is read."""
    names = sorted({*known} - _ALWAYS)
    for key in sorted(map(str, keys)):
        near = difflib.get_close_matches(key, names, n=2, cutoff=0.5)
        close = difflib.get_close_matches(key, names, n=1, cutoff=0.75)
        if not strict and not close:
            continue
        hint = f'Did you mean {" or ".join(near)}?' if near else f'There are: {", ".join(names) or "none"}.'
        inherited = '' if close else ' If it comes from a base config, _delete_=True keeps it out.'
        yield f'{path}.{key}: {text}. {hint}{inherited}'


@cache
def _resolve(name: str, registry: Registry | None, scope: str) -> tuple[Any, Registry | None]:
    """Find what a type names, first in the section's registry, and the registry that has it."""
    if name.startswith('torchvision/') and hasattr(torchvision.datasets, name[12:]):
        return getattr(torchvision.datasets, name[12:]), None
    for base in _registries(registry, scope, name):
        part = base.children.get(scope, base).get(name)
        if part is not None:
            return part, base
    return None, None


def _names(registry: Registry | None, scope: str, name: str) -> set[str]:
    names: set[str] = set()
    for base in _registries(registry, scope, name) if registry is None else [registry]:
        names.update(base.module_dict)
        for child in base.children.values():
            names.update(f'{child.scope}.{key}' for key in child.module_dict)
            if child.scope == scope:
                names.update(child.module_dict)
    return names


def _registries(first: Registry | None, scope: str, name: str) -> list[Registry]:
    packages = [package for package in (scope, name.rpartition('.')[0]) if package]
    own = [registry for package in packages for registry in _registries_of(package)]
    return [*([first] if first is not None else []), *_REGISTRIES, *own]


@cache
def _registries_of(package: str) -> list[Registry]:
    """Give the registries that a package has for itself, beside the children of mmengine's."""
    try:
        module = importlib.import_module(f'{package}.registry')
    except ImportError:
        return []
    return [value for value in vars(module).values() if isinstance(value, Registry) and value.parent is None]
