"""A fingerprint of plain data, to compare for example the settings of two runs."""

import hashlib
from types import FunctionType
from typing import Any


def fingerprint(value: Any) -> str:
    """SHA-256 of plain data, in hexadecimal: equal for equal data, whatever the order of keys, machine or process.

    Args:
        value: Dicts, lists, strings, numbers, True, False and None. A tuple counts as a list, and a class or function
            as its name. Any other object counts as the name of its class, because its ``repr`` may contain an address.
    """
    return hashlib.sha256(repr(_ordered(value)).encode()).hexdigest()


def _ordered(value: Any) -> Any:
    """A form of the data whose ``repr`` is the same in every process."""
    if isinstance(value, dict):
        return sorted((repr(key), _ordered(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return value.__qualname__ if isinstance(value, (type, FunctionType)) else type(value).__name__
