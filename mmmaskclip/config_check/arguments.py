"""Which arguments a class or function takes, base classes' included, and whether a value of a config fits one."""

from __future__ import annotations

import ast
import enum
import inspect
import textwrap
import types
import typing
from collections import abc
from functools import cache, partial
from inspect import Parameter
from pathlib import PurePath
from typing import Any, NamedTuple

#: The values that a config writes down; any other value is an object, which is not checked.
PLAIN = (bool, int, float, str, dict, list, tuple, type(None))
# Stands for dict[str, SOMETHING]: several things by name, which a list cannot be.
_NAMED = type('dict', (), {})
# What a config may hold for an annotated class, for any class without a row what object says. An integer annotation
# takes True, too: OpenMMLab annotates switches so. A detector's neck is annotated as a dict and may be a list of them.
_HELD: dict[type, set[type]] = {
    object: {dict, list, tuple, str},
    **{cls: {cls} for cls in (bool, str, type(None))},
    **dict.fromkeys((list, tuple, set, abc.Sequence, abc.Iterable, abc.Collection), {list, tuple}),
    **dict.fromkeys((dict, abc.Mapping), {dict, list, tuple}),
    int: {int, bool},
    float: {int, float},
    _NAMED: {dict},
}


class Arguments(NamedTuple):
    """The arguments that may be passed by name.

    Attributes:
        named: The arguments, by name.
        tolerance: Refuse only those other keys that resemble an argument at least so much, from 0 to 1, because others
            may be read as well. With 0 every other key is refused.
    """

    named: dict[str, Parameter]
    tolerance: float = 0.0


def arguments(of: Arguments | None = None, tolerance: float = 0.0, **kinds: Any) -> Arguments:
    """Optional arguments of these names and types, besides those of a function."""
    more = {key: Parameter(key, Parameter.KEYWORD_ONLY, default=None, annotation=kinds[key]) for key in kinds}
    return Arguments({**(of.named if of else {}), **more}, tolerance)


@cache
def arguments_of(part: Any) -> Arguments | None:
    """The arguments of a class or function, those that ``**kwargs`` passes on to a base class included.

    Args:
        part: A class or function, or a ``partial(factory, cls)``, which stands for the class.

    Returns:
        The arguments, with types in place of annotations in quotes; None if Python does not know the signature.
    """
    while isinstance(part, partial):
        part = next(filter(inspect.isclass, part.args), part.func)
    bases = part.__mro__[:-1] if inspect.isclass(part) else ()
    named: dict[str, Parameter] = {}
    is_open, rest = False, None
    for function in [vars(cls)['__init__'] for cls in bases if '__init__' in vars(cls)] if bases else [part]:
        try:
            signature = inspect.signature(function, eval_str=True)
        except (NameError, AttributeError):  # a type for type checkers only, or of a package that is not installed
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            return None
        for one in signature.parameters.values():
            if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and one.name != 'self':
                # Arguments of a base class that may not get them are still the best guess of what was meant.
                named.setdefault(one.name, one.replace(annotation=one.empty) if is_open else one)
        rest = next((one.name for one in signature.parameters.values() if one.kind is one.VAR_KEYWORD), None)
        if rest is None:
            break
        is_open = is_open or not _only_passed_on(function, rest)
    return Arguments(named, 0.75 if is_open or rest else 0.0)


def _only_passed_on(function: Any, rest: str) -> bool:
    """Whether ``**kwargs`` goes to the base class's ``__init__`` and nowhere else."""
    try:
        nodes = [*ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))]
    except (OSError, TypeError, SyntaxError):
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func).endswith('.__init__')]
    passed = [keyword.value for call in calls for keyword in call.keywords if keyword.arg is None]
    return len(passed) == 1 and passed == [node for node in nodes if isinstance(node, ast.Name) and node.id == rest]


def wrong_type(value: Any, argument: Parameter, of_part: bool = True) -> str | None:
    """Say what an argument takes, if a plain value of a config is certainly not that; None if it may be.

    A dict stands for the object that is built from it, a list for a tuple, an integer for a float, and for the argument
    of a part a list of dicts for a dict. Without an annotation, only text in place of a number is refused.
    """
    default, annotation = argument.default, argument.annotation
    if annotation is Parameter.empty or isinstance(annotation, str):
        wrong = isinstance(value, str) and isinstance(default, (int, float, complex))
        return type(default).__name__ if wrong else None
    classes = _classes(annotation)
    if value is default or object in classes:
        return None
    held = set[type]().union(*(_HELD.get(cls, _HELD[object]) for cls in classes))
    # Text stands for a class, unless a number or a dict may stand beside it, as in lr: float | Tensor.
    if {int, float, dict} & {*classes} and not any(issubclass(cls, (str, enum.Enum, PurePath)) for cls in classes):
        held.discard(str)
    if not of_part and not any(_HELD.get(cls) == {list, tuple} for cls in classes):
        held -= {list, tuple}
    fits = next(kind for kind in PLAIN if isinstance(value, kind)) in held
    fits = fits or any(isinstance(value, cls) for cls in classes if cls not in _HELD)  # numbers.Number
    return None if fits else ' or '.join(cls.__name__.replace('NoneType', 'None') for cls in classes)


def _classes(annotation: Any) -> list[type]:
    """The classes of an annotation, those of a union one by one; ``object`` where it says something else."""
    origin, within = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return [cls for part in within for cls in _classes(part)]
    if origin is typing.Literal:
        return [*dict.fromkeys(map(type, within))]
    if origin is dict and within[:1] == (str,) and within[1] is not Any:
        return [_NAMED]
    cls = origin or annotation
    return [cls] if inspect.isclass(cls) and cls is not Any else [object]
