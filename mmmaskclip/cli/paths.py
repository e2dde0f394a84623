"""Finds paths in a config that do not exist, before anything is built or loaded."""

from __future__ import annotations

import difflib
import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from braceexpand import braceexpand
from mmengine.config import Config

from mmmaskclip.config_check import refuse
from mmmaskclip.datasets.training.shard_urls import is_local
from mmmaskclip.utils.nearest import meant

_ROOTS = ('data_root', 'root')
# mmpretrain's sets that download themselves by default.
_DOWNLOADED = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')


def check_paths(cfg: Config, mode: str = 'train', checkpoint: str | None = None) -> None:
    """Check that what a run reads exists: weights, and the folders and files of its datasets.

    Only paths of this machine are checked, no urls and no pipes; of a list with braces only the first and the last.
    Suites, and evaluations with ``skip_missing``, are left out, because they run without the sets that are missing.

    Args:
        cfg: The config of a run that is about to start.
        mode: ``'train'``, which also reads the validation's data, or ``'test'``.
        checkpoint: The checkpoint that ``'test'`` loads.

    Raises:
        ConfigMistake: Names each key whose path does not exist, and the nearest path that does.
    """
    problems = [*_missing('checkpoint', checkpoint)]
    if mode == 'train':
        problems += [*_missing('load_from', cfg.get('load_from')), *_missing_below(cfg.get('model'), 'model')]
    for section in ('train', 'val') if mode == 'train' else ('test',):
        loop = cfg.get(f'{section}_cfg') or {}
        if not (str(loop.get('type')).endswith('SuiteLoop') or loop.get('skip_missing')):
            problems += _missing_below(cfg.get(f'{section}_dataloader'), f'{section}_dataloader')
    refuse(problems)


def _missing_below(node: Any, path: str) -> Iterator[str]:
    """Say which of the paths in a model's or a data loader's config do not exist."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _missing_below(value, f'{path}.{key}')
    # Other backends are no file system of this machine.
    if not isinstance(node, dict) or node.get('backend_args') or node.get('file_client_args'):
        return
    kind = str(node.get('type')).rpartition('.')[2]
    yield from _missing(f'{path}.load_from', node.get('load_from'))
    if path.endswith('.init_cfg'):
        yield from _missing(f'{path}.checkpoint', node.get('checkpoint'))
    if not node.get('download', kind in _DOWNLOADED):
        roots = [problem for key in _ROOTS for problem in _missing(f'{path}.{key}', node.get(key))]
        yield from roots
        if roots:
            return
    urls = node.get('urls') or (node.get('path') if kind == 'auto' else None) or ()
    key = 'urls' if node.get('urls') else 'path'
    for url in [urls] if isinstance(urls, str) else urls:
        # Two of possibly thousands; the dataset's preflight names each shard that is missing.
        shards = [*braceexpand(url)] if isinstance(url, str) and is_local(url) else ['']
        problems = [[*_missing(f'{path}.{key}', shard)] for shard in (shards[0], shards[-1])]
        yield from problems[0] if all(problems) else ()
    listed = node.get('ann_file')
    # mmengine's datasets look for it below the root, ours where it says.
    if isinstance(listed, str) and '://' not in listed and not Path(listed).exists():
        root = next((node[key] for key in _ROOTS if isinstance(node.get(key), str)), '')
        yield from _missing(f'{path}.ann_file', str(Path(root, listed)))


def _missing(key: str, path: Any) -> Iterator[str]:
    """Say that a path does not exist, and name the nearest one in the last of its folders that exists."""
    if not isinstance(path, str) or not path or '://' in path or path.startswith('pipe:'):
        return
    full = part = Path(path).expanduser().absolute()
    if full.exists() or (glob.has_magic(path) and glob.glob(str(full), recursive=True)):
        return
    while not part.parent.exists():
        part = part.parent
    names = [entry.name for entry in part.parent.iterdir()] if part.parent.is_dir() else []
    near = [str(part.parent / name) for name in difflib.get_close_matches(part.name, names, n=2)]
    hint = meant(near) or f' The last folder of it that exists is {part.parent}.'
    what = 'no file matches it' if glob.has_magic(path) else 'there is no such file or folder'
    yield f'{key}={path!r}: {what}.{hint}'
