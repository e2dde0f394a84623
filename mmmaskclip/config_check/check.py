"""Finds mistakes in a config before anything is built: unknown keys, unknown parts, values of a wrong type.

mmengine alone finds them late, or not at all. It builds some parts only after the data has been indexed and the weights
have been loaded, and it accepts a key that nothing reads without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import Parameter, Signature
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.config_check.keys import ADDED, OLD_KEYS, TAKEN, place, value_at
from mmmaskclip.config_check.parts import find_part, part_names, signature_of, wrong_type
from mmmaskclip.config_check.together import check_together
from mmmaskclip.startup.dependencies import missing_toolbox
from mmmaskclip.utils.nearest import did_you_mean

_ALWAYS = {'type', '_scope_'}
_PLAIN = (bool, int, float, str, dict, list, tuple)
_MOST = 10


def check_config(cfg: Config) -> None:
    """Check sections, keys, names of parts and types of values. Nothing is built; the parts' packages are imported.

    Every dict is compared with the signature of what takes it: of the part that its ``type`` names, with those of the
    base classes where the part passes ``**kwargs`` on, or of the function in
    :data:`~mmmaskclip.config_check.keys.PLACES`. Where a signature leaves open which keys are read, only keys that
    resemble one of its arguments are refused. The config itself is compared with the Runner's arguments.

    Args:
        cfg: The config, with its options merged.

    Raises:
        ConfigMistake: Names each unknown key, each unknown part and each value of a wrong type, and the nearest valid
            one. If a toolbox is not installed, the message says only that, and how to install it.
    """
    top = {key: value for key, value in cfg._cfg_dict.to_dict().items() if value is not None}
    # A config of a model alone says no scope.
    scope = top.get('default_scope') or 'mmmaskclip'
    if missing := missing_toolbox({str(scope), *re.findall(r"'type': '(\w+)\.", repr(top))}):
        raise ConfigMistake(missing)
    problems = [*_old_keys(top), *_walk(top, '', scope)]
    if not any(_wrong_value(top[key], key, '', place('').takes) for key in top):  # else the comparison would fail
        problems += check_together(top)
    refuse(problems)


def refuse(problems: list[str]) -> None:
    """Raise a ConfigMistake that lists the problems, one a line; do nothing if there are none."""
    if problems:
        more = [f'... and {len(problems) - _MOST} more'] if len(problems) > _MOST else []
        raise ConfigMistake('the config is wrong, nothing was started:\n  ' + '\n  '.join([*problems[:_MOST], *more]))


def _old_keys(top: dict[str, Any]) -> Iterator[str]:
    for key, value in top.items():
        if key in OLD_KEYS or (key == 'data' and isinstance(value, dict) and 'samples_per_gpu' in value):
            settings = OLD_KEYS.get(key, 'train_dataloader, val_dataloader and so on')
            yield f'{key}: no Runner reads this key any more. Its settings are in {settings}.'


def _walk(node: Any, path: str, scope: str) -> Iterator[str]:
    """Check a node of the config and all below it."""
    here = place(path)
    if not here.checked:
        return
    if isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _walk(value, f'{path}.{index}', scope)
    elif isinstance(node, str) and (here.form == 'part' or here.takes):
        yield f'{path}: expected a dict, {_found(node)}.'
    elif isinstance(node, str) and here.form == 'name':
        yield from _unknown_part(node, path, here.registry, scope)
    elif isinstance(node, dict):
        yield from _walk_dict(node, path, node.get('_scope_') or scope)


def _walk_dict(node: dict[str, Any], path: str, scope: str) -> Iterator[str]:
    """Compare a dict with the signature of what takes it, then check its values."""
    here, kind = place(path), node.get('type', '')
    takes, name, registry = here.takes, '', None
    # A detector's record may hold a list of types; a part's is a name or a class.
    no_name = (bool, int, float, type(None), *((dict, list, tuple) if here.form == 'part' else ()))
    if here.by_name and node and all(isinstance(value, (dict, list)) for value in node.values()):
        takes = None
    elif 'type' not in node and here.form == 'part':
        yield f'{path}: it has no type. Its keys: {", ".join(node)}.'
    elif isinstance(kind, no_name):
        yield f'{path}.type: expected the name of a part, {_found(kind)}.'
    elif isinstance(kind, str) and kind and takes is None:
        yield from _unknown_part(kind, path + '.type', here.registry, scope)
        part, registry = find_part(kind, here.registry, scope)
        takes, name = None if part is None else signature_of(part), kind
    if takes is not None:
        yield from _keys(node, path, takes, name, registry)
    for key, off in (('persistent_workers', False), ('prefetch_factor', None)):
        if node.get(key) and node.get('num_workers', 0) == 0:
            yield f'{path}.{key}={node[key]!r} needs num_workers above 0. Set it to {off} too.'
    for key, value in node.items():
        below = f'{path}.{key}'.lstrip('.')
        if problem := _wrong_value(value, below, name, takes, node):
            yield problem
        # Other variables at the top are the user's own.
        elif key not in _ALWAYS and (path or (takes and key in takes.parameters)):
            yield from _walk(value, below, scope)


def _unknown_part(name: str, path: str, registry: Registry | None, scope: str) -> Iterator[str]:
    if find_part(name, registry, scope)[0] is None:
        hint = did_you_mean(name, part_names(name, registry, scope), most=3) or ' Is its package in custom_imports?'
        yield f'{path}={name!r}: nothing of this name is registered in {scope}.{hint}'


def _keys(node: dict[str, Any], path: str, takes: Signature, name: str, registry: Registry | None) -> Iterator[str]:
    """Say which keys nothing reads, and which arguments are missing.

    Where the signature is open (``**kwargs``), only keys that resemble an argument are refused, and none is missing.
    """
    is_open = any(argument.kind is Parameter.VAR_KEYWORD for argument in takes.parameters.values())
    names = sorted({*takes.parameters} - {*_ALWAYS, '_'})
    tolerance = place(path).tolerance or (0.75 if is_open else 0)
    for key in sorted({*map(str, node)} - {*names, *TAKEN.get(registry, ()), *_ALWAYS}):
        close = did_you_mean(key, names, cutoff=tolerance or 0.75)
        if close or not tolerance:
            hint = did_you_mean(key, names, most=2, cutoff=0.5) or f' There are: {", ".join(names) or "none"}.'
            inherited = '' if close else ' If it comes from a base config, _delete_=True keeps it out.'
            text = f'{name} has no such argument' if name else 'nothing reads it'
            yield f'{path}.{key}: {text}.{hint}{inherited}'.lstrip('.')
    added = ADDED.get(registry, {*names}) if name else set()
    for key in names if path and not is_open else ():
        if takes.parameters[key].default is Parameter.empty and key not in {*node, *added}:
            yield f'{path}.{key}: it is missing; {name or "what reads it"} has no default for it.'


def _wrong_value(value: Any, path: str, name: str, takes: Signature | None, node: dict | None = None) -> str | None:
    """Say what the table or the signature expects at a place, if a value is certainly not that."""
    key, row = path.rpartition('.')[2], value_at(path)
    # mmengine multiplies epochs by the iterations of one and rounds.
    rounded = (
        isinstance(value, float) and key in ('begin', 'end', 'T_max') and (node or {}).get('convert_to_iter_based')
    )

    def expected(value: Any) -> str | None:
        if row and value is not None:
            return None if row[1](value) else f'expected {row[0]}'
        wrong = wrong_type(value, takes.parameters[key], part=bool(name)) if takes and key in takes.parameters else None
        return wrong and f'{name} takes {wrong}'.strip()

    if not isinstance(value, (*_PLAIN, type(None))) or key in _ALWAYS or rounded or not (wrong := expected(value)):
        return None
    comma = isinstance(value, tuple) and len(value) == 1 and not expected(value[0])
    return f'{path}: {wrong}, {_found(value)}.{" Remove the comma after it." if comma else ""}'


def _found(value: Any) -> str:
    return f'found {type(value).__name__} {value!r:.200}'
