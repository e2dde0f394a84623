"""What a registered class or function takes: its arguments, through ``**kwargs`` of base classes, and their types."""

from __future__ import annotations

import ast
import collections.abc
import enum
import inspect
import textwrap
import types
import typing
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

_NUMBERS = (int, float, complex)
_SCALARS = (bool, int, float, str)


class _Named:
    """Stands for ``dict[str, SOMETHING]``: several things by name, which a list cannot be."""


@dataclass
class Argument:
    """One argument: its annotation (``inspect.Parameter.empty`` without one) and its default."""

    annotation: Any
    default: Any


@dataclass
class Arguments:
    """All arguments of a part, by name.

    Attributes:
        arguments: The named ones.
        complete: False where further keys may be read, by a ``**kwargs`` that is not just passed to a base class.
    """

    arguments: dict[str, Argument]
    complete: bool


@cache
def arguments_of(part: Any) -> Arguments | None:
    """Find the arguments of a class or function, or of the class in a ``partial(factory, cls)``; None if unknown."""
    while isinstance(part, partial):
        part = next((value for value in part.args if inspect.isclass(value)), part.func)
    functions = [part]
    if inspect.isclass(part):
        functions = [vars(cls)['__init__'] for cls in part.__mro__ if '__init__' in vars(cls) and cls is not object]
    arguments: dict[str, Argument] = {}
    followed = True
    for function in functions:
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return None
        # Of bases that may not get the argument, names and defaults are still the best guess of what was meant.
        hints = _hints(function) if followed else {}
        rest = None
        for parameter in parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = parameter.name
            elif parameter.kind is not parameter.VAR_POSITIONAL and parameter.name != 'self':
                annotation = hints.get(parameter.name, parameter.empty)
                arguments.setdefault(parameter.name, Argument(annotation, parameter.default))
        if rest is None:
            return Arguments(arguments, complete=followed)
        followed = followed and _only_passed_on(function, rest)
    return Arguments(arguments, complete=False)


def wrong_type(value: Any, argument: Argument) -> str | None:
    """Say what an argument takes, if a value of a config is certainly not that; None if it may be.

    Dicts stand for the objects that are built from them, lists for tuples, integers for floats; without an annotation
    only text in place of a number is refused.
    """
    default = argument.default
    if value is default or (value is None and default is None):
        return None
    if argument.annotation is inspect.Parameter.empty:
        wrong = isinstance(value, str) and isinstance(default, _NUMBERS)
        return f'a {type(default).__name__}' if wrong else None
    members = _members(argument.annotation)
    # Beside numbers, as in lr: float | Tensor, text stands for nothing but the name of an enum.
    named = members is not None and any(member is str or issubclass(member, enum.Enum) for member in members)
    text_for_number = isinstance(value, str) and members and {int, float} & {*members} and not named
    if members is None or (not text_for_number and any(_fits(value, member) for member in members)):
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
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    uses = sum(isinstance(node, ast.Name) and node.id == rest for node in ast.walk(tree))
    passed = [
        keyword.value.id
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == '__init__'
        for keyword in call.keywords
        if keyword.arg is None and isinstance(keyword.value, ast.Name)
    ]
    return uses == 1 and passed == [rest]


def _members(annotation: Any) -> list[type] | None:
    """The classes of a (union) annotation, or None where it says something that this cannot judge."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        parts = [_members(part) for part in typing.get_args(annotation)]
        return None if None in parts else [cls for part in parts if part for cls in part]
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return list({type(value) for value in typing.get_args(annotation)})
    if origin is dict and typing.get_args(annotation)[:1] == (str,) and typing.get_args(annotation)[1] is not Any:
        return [_Named]
    cls = origin or annotation
    return [cls] if inspect.isclass(cls) and cls is not object else None


def _fits(value: Any, cls: type) -> bool:
    if not isinstance(value, (*_SCALARS, dict, list, tuple)) and value is not None:
        return True  # an object made in the config; its own class may be anything
    if cls is bool or cls is type(None) or cls is str:
        return isinstance(value, cls)
    if cls is int:
        return isinstance(value, int)  # True too: OpenMMLab annotates some switches so
    if cls is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if cls in (list, tuple, set, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection):
        return isinstance(value, (list, tuple))
    if cls is _Named:
        return isinstance(value, dict)
    if cls in (dict, collections.abc.Mapping):
        return isinstance(value, (dict, list, tuple))  # several parts where one is annotated are common
    if isinstance(value, cls):
        return True
    # Another class is built from a dict, or, like a Path or an enum, from text.
    return isinstance(value, (dict, list, tuple, str))
