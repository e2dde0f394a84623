"""The config that a checkpoint holds as text, read without executing it."""

from __future__ import annotations

import ast
import math
from typing import Any

_NAMES = {'inf': math.inf, 'nan': math.nan}


def model_config(text: str) -> dict[str, Any] | None:
    """The ``model`` of a config in the form in which mmengine writes one: assignments of dicts, lists and constants.

    Args:
        text: ``meta['cfg']`` of a checkpoint.

    Returns:
        The config of the model, or None if the text assigns none.

    Raises:
        ValueError: If the text is no Python, or the model's part calls or names anything but ``dict``.
    """
    try:
        assignments = ast.parse(text).body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f'the config in the checkpoint cannot be read: {error}') from error
    for node in assignments:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and _is_name(node.targets[0], 'model'):
            return _value(node.value)
    return None


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and all(key is not None for key in node.keys):
        return {_value(key): _value(item) for key, item in zip(node.keys, node.values, strict=True) if key is not None}
    if isinstance(node, ast.Call) and _is_name(node.func, 'dict') and not node.args:
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if None not in keywords:
            return {name: _value(value) for name, value in keywords.items()}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    raise ValueError(
        f'the config in the checkpoint has {ast.unparse(node)[:60]!r} in its model, which is not executed: give the '
        'config file too'
    )
