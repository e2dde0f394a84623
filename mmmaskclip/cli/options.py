"""``--cfg-options KEY=VALUE``: parses the values, merges them into the config, and refuses keys that nothing reads."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.utils.nearest import did_you_mean, meant

if TYPE_CHECKING:
    from mmengine.config import Config


class Options(argparse.Action):
    """Collects ``KEY=VALUE`` in a dict; an argument without an equals sign is an error."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:  # type: ignore[no-untyped-def]
        options = dict(getattr(namespace, self.dest))
        for text in values:
            key, equals, value = text.partition('=')
            if not equals:
                parser.error(f'{option_string} {text}: expected KEY=VALUE, without blanks around "=".')
            options[key] = read_value(value)
        setattr(namespace, self.dest, options)


def read_value(text: str) -> Any:
    """Read a value as mmengine does: ``8``, ``0.1``, ``True``, ``None``, ``a,b``, ``[1,2]``, ``(a,b)``; else text.

    Unlike mmengine it also reads dicts (``"{'lr_mult': 0.1}"``), keeps blanks in text, and leaves shard patterns with
    braces as they are.
    """
    from mmengine.config import DictAction

    if text[:1] in ('{', '[', '(', '"', "'"):
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            pass  # names without quotation marks, or a shard pattern in braces
    bracketed = text[:1] in ('[', '(') and text[-1:] in (']', ')')
    return text if '{' in text or (' ' in text and not bracketed) else DictAction._parse_iterable(text)


def apply_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merge options into a config.

    Raises:
        ConfigMistake: If an option sets a key that nothing reads; mmengine would merge it without a message. Names the
            nearest key. Also if a value cannot be merged, such as a dict into a string.
    """
    for key in options:
        _check(cfg, key)
    try:
        cfg.merge_from_dict(options)
    except (TypeError, KeyError, IndexError) as error:
        text = str(error.args[0]).replace('in child config', 'in --cfg-options').replace('child config', 'option')
        raise ConfigMistake(f'--cfg-options: {text}') from error


def _check(cfg: Config, option: str) -> None:
    from mmmaskclip.config_check.keys import RUNNER_KEYS

    node: object = cfg._cfg_dict
    walked: list[str] = []
    *parents, leaf = option.split('.')
    first = (*parents, leaf)[0]
    if first in node and first not in RUNNER_KEYS:
        readers = [path for path in _paths(cfg._cfg_dict) if path.split('.')[0] in RUNNER_KEYS]
        near = [path for path in readers if path.split('.')[-1] == leaf][:3]
        hint = meant(near)
        raise ConfigMistake(
            f'--cfg-options {option}: {first} is a variable of the config, whose value was copied when the config was '
            f'read. Set the keys that have the copies.{hint}'
        )
    for key in parents:
        if isinstance(node, (list, tuple)) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, dict) and key in node:
            node = node[key]
        elif not walked and key in RUNNER_KEYS:
            return
        else:
            raise ConfigMistake(_unknown_key(option, key, node, walked, cfg))
        walked.append(key)
    if isinstance(node, dict):
        # An option may set an argument that the config leaves at its default. So a key that the config lacks is refused
        # only at the top level, or if it resembles one that the config has.
        known = leaf in node or (not walked and leaf in RUNNER_KEYS)
        wrong = not known and (not walked or bool(did_you_mean(leaf, node, cutoff=0.85)))
    else:
        wrong = not (isinstance(node, (list, tuple)) and leaf.isdigit() and int(leaf) < len(node))
    if wrong:
        raise ConfigMistake(_unknown_key(option, leaf, node, walked, cfg))


def _unknown_key(option: str, key: str, node: object, walked: list[str], cfg: Config) -> str:
    from mmmaskclip.config_check.keys import RUNNER_KEYS

    where = '.'.join(walked) or 'the config'
    if not isinstance(node, (dict, list, tuple)):
        return f'--cfg-options {option}: {where} is {node!r}, which has no keys. Set it itself.'
    names = [*node] if isinstance(node, dict) else [str(index) for index in range(len(node))]
    if not walked:
        names = list(dict.fromkeys([*names, *RUNNER_KEYS]))
        # The user wrote only the end of a path, such as lr or optimizer.lr.
        near = [path for path in _paths(cfg._cfg_dict) if f'.{path}'.endswith(f'.{option}')][:3]
    else:
        near = []
    hint = meant(near) or did_you_mean(key, map(str, names), most=3, cutoff=0.5)
    hint = hint or f' There are: {", ".join(map(str, names))}.'
    return f'--cfg-options {option}: there is no {key!r} in {where}.{hint}'


def _paths(node: object, path: str = '') -> Iterator[str]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        here = f'{path}.{key}' if path else str(key)
        yield here
        yield from _paths(value, here)
