"""What a ``type`` of a config names, and what that class or function takes: its arguments, base classes' included."""

from __future__ import annotations

import ast
import contextlib
import enum
import importlib
import inspect
import textwrap
import types
import typing
from collections import abc
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torchvision
from mmengine.registry import Registry


class _Named:
    """Stands for ``dict[str, SOMETHING]``: several things by name, which a list cannot be."""


# What a config may hold for a class. True for a whole number too: OpenMMLab annotates some switches so.
_ANY_PART = (dict, list, tuple)
_HOLDS: dict[type, tuple[type, ...]] = {
    **{cls: (cls,) for cls in (bool, int, str, type(None))},
    **dict.fromkeys((list, tuple, set, abc.Sequence, abc.Iterable, abc.Collection), (list, tuple)),
    float: (int, float),
    dict: _ANY_PART,  # several parts where one is annotated are common
    abc.Mapping: _ANY_PART,
    _Named: (dict,),
}
_BUILT_FROM = (*_ANY_PART, str)  # any other class: from a dict, or, like a Path or an enum, from text
_PLAIN = (bool, int, float, str, dict, list, tuple, type(None))


@dataclass
class Arguments:
    """All arguments of a part.

    Attributes:
        annotations: By name; ``inspect.Parameter.empty`` without one.
        defaults: By name; ``inspect.Parameter.empty`` without one.
        complete: False where further keys may be read, by a ``**kwargs`` that is not just passed to a base class.
    """

    annotations: dict[str, Any]
    defaults: dict[str, Any]
    complete: bool


@cache
def find_part(name: str, registry: Registry | None, scope: str) -> tuple[Any, Registry | None]:
    """Find what a name stands for, first in the section's registry.

    Args:
        name: The ``type``, with or without its scope.
        registry: That of the section; None where it is not known.
        scope: The config's scope.

    Returns:
        The class or function, and mmengine's registry above the one that has it; None twice where nothing has it.
    """
    if name.startswith('torchvision/') and name[12:] in torchvision.datasets.__all__:
        return vars(torchvision.datasets)[name[12:]], None
    for base in _registries(name, registry, scope):
        part = base.children.get(scope, base).get(name)
        if part is not None:
            return part, base
    return None, None


def part_names(name: str, registry: Registry | None, scope: str) -> set[str]:
    """Give all names that may have been meant, of the section's registry or, where it is not known, of all."""
    names: set[str] = set()
    for base in _registries(name, None, scope) if registry is None else [registry]:
        names.update(base.module_dict)
        for child in base.children.values():
            names.update(f'{child.scope}.{key}' for key in child.module_dict)
            if child.scope == scope:
                names.update(child.module_dict)
    return names


@cache
def _registries(name: str, first: Registry | None, scope: str) -> list[Registry]:
    """Give mmengine's registries, and those that the packages of the scope and of the name have for themselves."""
    found = [] if first is None else [first]
    for package in ('mmengine', scope, name.rpartition('.')[0] or scope):
        with contextlib.suppress(ImportError):
            values = vars(importlib.import_module(f'{package}.registry')).values()
            found += [value for value in values if isinstance(value, Registry) and value.parent is None]
    return found


@cache
def arguments_of(part: Any) -> Arguments | None:
    """Find the arguments of a class or function, or of the class in a ``partial(factory, cls)``; None if unknown."""
    while isinstance(part, partial):
        part = next((value for value in part.args if inspect.isclass(value)), part.func)
    functions = [part]
    if inspect.isclass(part):
        functions = [vars(cls)['__init__'] for cls in part.__mro__ if '__init__' in vars(cls) and cls is not object]
        functions = functions or [part]
    takes = Arguments({}, {}, complete=True)
    for function in functions:
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return None
        # Of bases that may not get the argument, names and defaults are still the best guess of what was meant.
        hints = _hints(function) if takes.complete else {}
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and parameter.name != 'self':
                takes.annotations.setdefault(parameter.name, hints.get(parameter.name, parameter.empty))
                takes.defaults.setdefault(parameter.name, parameter.default)
        rest = [parameter.name for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD]
        if not rest:
            return takes
        takes.complete = takes.complete and _only_passed_on(function, *rest)
    takes.complete = False
    return takes


def wrong_type(value: Any, annotation: Any, default: Any) -> str | None:
    """Say what an argument takes, if a value of a config is certainly not that; None if it may be.

    Dicts stand for the objects that are built from them, lists for tuples, integers for floats; without an annotation
    only text in place of a number is refused.
    """
    if value is default or (value is None and default is None):
        return None
    if annotation is inspect.Parameter.empty:
        wrong = isinstance(value, str) and isinstance(default, (int, float, complex))
        return f'a {type(default).__name__}' if wrong else None
    members = _members(annotation)
    # An object made in the config may be of any class.
    if members is None or not isinstance(value, _PLAIN):
        return None
    # Beside numbers, as in lr: float | Tensor, text stands for nothing but the name of an enum.
    named = any(member is str or issubclass(member, enum.Enum) for member in members)
    text_for_number = isinstance(value, str) and {int, float} & {*members} and not named
    if not text_for_number and any(_fits(value, member) for member in members):
        return None
    names = {type(None): 'None', _Named: 'dict'}
    return ' or '.join(names.get(member, member.__name__) for member in members)


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # names that exist for type checkers only
        return {}


def _only_passed_on(function: Any, rest: str) -> bool:
    """Whether ``**kwargs`` goes to the base class's ``__init__`` and nowhere else."""
    try:
        nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))))
    except (OSError, TypeError, SyntaxError):
        return False
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == rest]
    passed = [
        keyword.value
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == '__init__'
        for keyword in node.keywords
        if keyword.arg is None
    ]
    return len(passed) == 1 and uses == passed


def _members(annotation: Any) -> list[type] | None:
    """The classes of a (union) annotation, or None where it says something that this cannot judge."""
    origin, within = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        parts = [_members(part) for part in within]
        return None if None in parts else [cls for part in parts if part for cls in part]
    if origin is typing.Literal:
        return list({type(value) for value in within})
    if origin is dict and within[:1] == (str,) and within[1] is not Any:
        return [_Named]
    cls = origin or annotation
    return [cls] if inspect.isclass(cls) and cls is not object else None


def _fits(value: Any, cls: type) -> bool:
    if cls is float and isinstance(value, bool):
        return False
    return isinstance(value, _HOLDS.get(cls, (cls, *_BUILT_FROM)))
