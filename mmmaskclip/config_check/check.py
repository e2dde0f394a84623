"""Finds mistakes in a config before anything is built: unknown keys, unknown parts, values of a wrong type.

mmengine alone finds them late, or not at all. It builds some parts only after the data has been indexed and the weights
have been loaded, and it accepts a key that nothing reads without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import Parameter
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from mmmaskclip.config_check import ConfigMistake, refuse
from mmmaskclip.config_check.arguments import PLAIN, Arguments, arguments_of, wrong_type
from mmmaskclip.config_check.keys import ANY, BUILT, OLD_KEYS, place
from mmmaskclip.engine.sections import compare_sections
from mmmaskclip.registry import find_part, unknown_part
from mmmaskclip.startup.dependencies import missing_toolbox
from mmmaskclip.utils.nearest import did_you_mean

_ALWAYS = {'type', '_scope_'}


def check_config(cfg: Config) -> None:
    """Check sections, keys, names of parts and types of values. Nothing is built; the parts' packages are imported.

    Every dict is compared with the arguments of what takes it: the part that its ``type`` names, or what
    :data:`~mmmaskclip.config_check.keys.PLACES` names. Where that may read any key, only misspelled ones are refused.

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
    old = [key for key in OLD_KEYS if key in top and (key != 'data' or 'samples_per_gpu' in str(top[key]))]
    problems = [f'{key}: no Runner reads this key any more. Its settings are in {OLD_KEYS[key]}.' for key in old]
    problems += _walk(top, '', scope)
    if not any(_wrong_value(top[key], key, place('').takes) for key in top):  # else the comparison would fail
        problems += compare_sections(top)
    refuse(problems)


def _walk(node: Any, path: str, scope: str) -> Iterator[str]:
    """Check a node of the config and all below it."""
    here = place(path)
    if here.form == 'free':
        return
    if isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _walk(value, f'{path}.{index}', scope)
    elif isinstance(node, dict):
        yield from _walk_dict(node, path, node.get('_scope_') or scope)
    elif isinstance(node, str) and here.form == 'name':
        yield from _unknown_part(node, path, here.registry, scope)
    elif isinstance(node, str) and (here.form or here.takes):
        yield f'{path}: expected a dict, {_found(node)}.'


def _walk_dict(node: dict[str, Any], path: str, scope: str) -> Iterator[str]:
    """Compare a dict with the arguments of what takes it, then check its values."""
    here, kind = place(path), node.get('type', '')
    takes, name, registry = here.takes, '', None
    is_part = here.form in ('part', 'parts') and not takes
    # A detector's record may hold a list of types; a part's is a name or a class.
    no_name = (bool, int, float, type(None), *((dict, list, tuple) if is_part else ()))
    if here.form == 'parts' and node and all(isinstance(value, (dict, list)) for value in node.values()):
        takes = None
    elif is_part and 'type' not in node:
        yield f'{path}: it has no type. Its keys: {", ".join(node)}.'
    elif isinstance(kind, no_name):
        yield f'{path}.type: expected the name of a part, {_found(kind)}.'
    elif isinstance(kind, str) and kind and not takes:
        yield from _unknown_part(kind, f'{path}.type', here.registry, scope)
        part, registry = find_part(kind, here.registry, scope)
        takes, name = (arguments_of(part), kind) if part else (None, '')
    yield from _wrong_keys(node, path, takes, name, registry) if takes else ()
    for key, off in (('persistent_workers', False), ('prefetch_factor', None)):
        if node.get(key) and node.get('num_workers', 0) == 0:
            yield f'{path}.{key}={node[key]!r} needs num_workers above 0. Set it to {off} too.'
    for key, value in node.items():
        below = f'{path}.{key}'.lstrip('.')
        # mmengine multiplies epochs by the iterations of one and rounds.
        if key in ('begin', 'end', 'T_max') and node.get('convert_to_iter_based') and isinstance(value, float):
            continue
        if problem := _wrong_value(value, below, takes, name):
            yield problem
        # Other variables at the top are the user's own.
        elif key not in _ALWAYS and (path or (takes and key in takes.named)):
            yield from _walk(value, below, scope)


def _unknown_part(name: str, path: str, registry: Registry | None, scope: str) -> Iterator[str]:
    if find_part(name, registry, scope)[0] is None:
        yield f'{path}={name!r}: {unknown_part(name, registry, scope)}'


def _wrong_keys(node: dict, path: str, takes: Arguments, name: str, registry: Registry | None) -> Iterator[str]:
    """Say which keys nothing reads, and which arguments are missing."""
    taken, added = BUILT.get(registry, ANY)
    names = sorted({*takes.named} - _ALWAYS)
    for key in sorted({*map(str, node)} - {*names, *taken, *_ALWAYS}):
        close = did_you_mean(key, names, cutoff=takes.tolerance or 0.75)
        if close or not takes.tolerance:
            hint = did_you_mean(key, names, most=2, cutoff=0.5) or f' There are: {", ".join(names) or "none"}.'
            inherited = '' if close else ' If it comes from a base config, _delete_=True keeps it out.'
            text = f'{name} has no such argument' if name else 'nothing reads it'
            yield f'{path}.{key}: {text}.{hint}{inherited}'.lstrip('.')
    if not path or added is None or takes.tolerance:
        return
    for key in names:
        if takes.named[key].default is Parameter.empty and key not in {*node, *added}:
            yield f'{path}.{key}: it is missing; {name or "what reads it"} has no default for it.'


def _wrong_value(value: Any, path: str, takes: Arguments | None, name: str = '') -> str | None:
    """Say what the table or the arguments expect at a place, if a value is certainly not that."""
    key, row = path.rpartition('.')[2], place(path).value
    argument = takes.named.get(key) if takes and key not in _ALWAYS else None

    def expected(value: Any) -> str | None:
        if row and value is not None:
            return None if row[1](value) else f'expected {row[0]}'
        wrong = wrong_type(value, argument, of_part=bool(name)) if argument else None
        return wrong and f'{name} takes {wrong}'.strip()

    if not isinstance(value, PLAIN) or not (wrong := expected(value)):
        return None
    comma = isinstance(value, tuple) and len(value) == 1 and not expected(value[0])
    return f'{path}: {wrong}, {_found(value)}.{" Remove the comma after it." if comma else ""}'


def _found(value: Any) -> str:
    return f'found {type(value).__name__} {value!r:.200}'
