"""Telling whether two pieces of plain data, such as the settings of two runs, are the same."""

import hashlib
import json
from typing import Any


def fingerprint(value: Any) -> str:
    """SHA-256 of plain data, in hexadecimal: equal for equal data, whatever the order of keys, machine or process.

    Args:
        value: Dicts, lists, strings, numbers, True, False and None; anything else counts by its text.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
