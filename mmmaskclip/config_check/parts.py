"""What a ``type`` of a config names, and the signature of that class or function, base classes' arguments included."""

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
from functools import cache, partial
from inspect import Parameter, Signature
from pathlib import PurePath
from typing import Any

import torchvision
from mmengine.registry import Registry

_EMPTY, _BY_NAME = Parameter.empty, Parameter.KEYWORD_ONLY


class _Named:
    """Stands for ``dict[str, SOMETHING]``: several things by name, which a list cannot be."""


# What a config may hold for an annotated class. An integer annotation takes True, too: OpenMMLab annotates switches so.
_PART = (dict, list, tuple)
_HELD: dict[type, tuple[type, ...]] = {
    **{cls: (cls,) for cls in (bool, int, str, type(None))},
    **dict.fromkeys((list, tuple, set, abc.Sequence, abc.Iterable, abc.Collection), (list, tuple)),
    **dict.fromkeys((dict, abc.Mapping), _PART),  # a detector's neck is annotated as a dict and may be a list of them
    float: (int, float),
    _Named: (dict,),
}


def find_part(name: str, registry: Registry | None, scope: str) -> tuple[Any, Registry | None]:
    """Find the class or function of a ``type`` and mmengine's registry above the one that has it; else None twice.

    Args:
        name: The ``type``, with or without its scope.
        registry: Registry of the section, searched first; None where it is not known.
        scope: The config's scope.
    """
    # Not cached: in a notebook a part may be registered after a mistake, or anew.
    if name.startswith('torchvision/') and name[12:] in torchvision.datasets.__all__:
        return vars(torchvision.datasets)[name[12:]], None
    for base in _registries(name, registry, scope):
        part = base.children.get(scope, base).get(name)
        if part is not None:
            return part, base
    return None, None


def part_names(name: str, registry: Registry | None, scope: str) -> set[str]:
    """All names that may have been meant: of the section's registry, or of all registries where it is not known."""
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
    """The registries of mmengine, and those that the packages of the scope and of the name have besides."""
    registries = [] if first is None else [first]
    for package in ('mmengine', scope, name.rpartition('.')[0] or scope):
        with contextlib.suppress(ImportError):
            values = vars(importlib.import_module(f'{package}.registry')).values()
            registries += [value for value in values if isinstance(value, Registry) and value.parent is None]
    return registries


@cache
def signature_of(part: Any, **more: Any) -> Signature | None:
    """The arguments that may be passed by name, those that ``**kwargs`` passes on to a base class included.

    Args:
        part: A class or function, or a ``partial(factory, cls)``, which stands for the class. None: only ``more``.
        **more: Types of further arguments, by name, with None as default.

    Returns:
        The signature, with types in place of annotations in quotes. It ends with ``**kwargs`` if other keys may be read
        as well. None if Python does not know the signature.
    """
    while isinstance(part, partial):
        part = next((value for value in part.args if inspect.isclass(value)), part.func)
    functions = [] if part is None else [part]
    if inspect.isclass(part):
        functions = [vars(cls)['__init__'] for cls in part.__mro__ if '__init__' in vars(cls) and cls is not object]
    named = {name: Parameter(name, _BY_NAME, default=None, annotation=kind) for name, kind in more.items()}
    rest, complete = None, True
    for function in functions:
        try:
            parameters = inspect.signature(function).parameters.values()
            # Arguments of bases that may not get them are still the best guess of what was meant.
            hints = typing.get_type_hints(function) if complete else {}
        except (TypeError, ValueError):
            return None
        except (NameError, AttributeError):  # a type for type checkers only, or of a package that is not installed
            hints = {}
        for one in parameters:
            if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and one.name != 'self':
                kind = hints.get(one.name, _EMPTY)
                named.setdefault(one.name, one.replace(kind=_BY_NAME, annotation=kind))
        rest = next((one for one in parameters if one.kind is one.VAR_KEYWORD), None)
        if rest is None:
            break
        complete = complete and _only_passed_on(function, rest.name)
    open_end = [] if complete and rest is None else [Parameter('_', Parameter.VAR_KEYWORD)]
    return Signature([*named.values(), *open_end])


def wrong_type(value: Any, argument: Parameter, part: bool = True) -> str | None:
    """Say what an argument takes, if a value of a config is certainly not that; None if it may be.

    A dict stands for the object that is built from it, a list for a tuple, an integer for a float. If the argument has
    no annotation, only text in place of a number is refused.

    Args:
        value: The value.
        argument: The argument, with its default.
        part: The argument is a part's: a list of dicts may stand for a dict.
    """
    default = argument.default
    if value is default or (value is None and default is None):
        return None
    if argument.annotation is _EMPTY:
        wrong = isinstance(value, str) and isinstance(default, (int, float, complex))
        return type(default).__name__ if wrong else None
    members = _members(argument.annotation)
    if members is None:
        return None
    held = [_HELD.get(member, (member, *_PART, str)) for member in members]
    if not part and isinstance(value, (list, tuple)):
        held = [kinds for kinds in held if dict not in kinds]
    if isinstance(value, bool):
        held = [kinds for kinds in held if float not in kinds]
    # Text stands for a class, unless a number or a dict may stand beside it, as in lr: float | Tensor.
    named = any(issubclass(member, (str, enum.Enum, PurePath)) for member in members)
    if isinstance(value, str) and {int, float, dict} & {*members} and not named:
        held = []
    if any(isinstance(value, kinds) for kinds in held):
        return None
    names = {type(None): 'None', _Named: 'dict'}
    return ' or '.join(names.get(member, member.__name__) for member in members)


def _only_passed_on(function: Any, rest: str) -> bool:
    """Whether ``**kwargs`` goes to the base class's ``__init__`` and nowhere else."""
    try:
        nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))))
    except (OSError, TypeError, SyntaxError):
        return False
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == rest]
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func).endswith('.__init__')]
    passed = [keyword.value for call in calls for keyword in call.keywords if keyword.arg is None]
    return len(passed) == 1 and uses == passed


def _members(annotation: Any) -> list[type] | None:
    """The classes of an annotation, those of a union one by one; None where it says something else."""
    origin, within = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        parts = [_members(part) for part in within]
        return None if None in parts else [cls for part in parts if part for cls in part]
    if origin is typing.Literal:
        return list({type(value) for value in within})
    if origin is dict and within[:1] == (str,) and within[1] is not Any:
        return [_Named]
    cls = origin or annotation
    return [cls] if inspect.isclass(cls) and cls not in (object, Any) else None
