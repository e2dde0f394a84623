"""Finds paths in a config that do not exist, before anything is built or loaded."""

from __future__ import annotations

import difflib
import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from braceexpand import braceexpand
from mmengine.config import Config

from mmmaskclip.config_check.check import refuse
from mmmaskclip.datasets.training.shard_urls import is_local
from mmmaskclip.utils.nearest import meant

# mmpretrain's sets that download themselves by default.
_DOWNLOADED = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')


def check_paths(cfg: Config, mode: str = 'train', checkpoint: str | None = None) -> None:
    """Check that what a run reads is there: weights, and the folders and files of its datasets.

    Only paths of this machine are looked at, no urls and no pipes; of a list with braces the first and the last.
    Suites, and evaluations with ``skip_missing``, are left out, because they go on without the sets that are missing.

    Args:
        cfg: The config of a run that is about to start.
        mode: ``'train'``, which also reads the data of the validation, or ``'test'``.
        checkpoint: What ``'test'`` loads, if it is a path.

    Raises:
        ConfigMistake: Names each key whose path does not exist, and the nearest one that does.
    """
    problems = [*_lost('checkpoint', checkpoint)]
    if mode == 'train':
        problems += [*_lost('load_from', cfg.get('load_from')), *_lost_below(cfg.get('model'), 'model')]
    for section in ('train', 'val') if mode == 'train' else ('test',):
        loop = cfg.get(f'{section}_cfg') or {}
        if not (str(loop.get('type')).endswith('SuiteLoop') or loop.get('skip_missing')):
            problems += _lost_below(cfg.get(f'{section}_dataloader'), f'{section}_dataloader')
    refuse(problems)


def _lost_below(node: Any, path: str) -> Iterator[str]:
    """Say which of the paths in a model's or a data loader's config do not exist."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _lost_below(value, f'{path}.{key}')
    # Other backends are no file system of this machine.
    if not isinstance(node, dict) or node.get('backend_args') or node.get('file_client_args'):
        return
    yield from _lost(f'{path}.load_from', node.get('load_from'))
    if path.endswith('.init_cfg'):
        yield from _lost(f'{path}.checkpoint', node.get('checkpoint'))
    roots = [node[key] for key in ('data_root', 'root') if isinstance(node.get(key), str)]
    if not node.get('download', str(node.get('type')).rpartition('.')[2] in _DOWNLOADED):
        lost = [problem for key in ('data_root', 'root') for problem in _lost(f'{path}.{key}', node.get(key))]
        yield from lost
        if lost:
            return
    urls = node.get('urls') or ()
    for url in [urls] if isinstance(urls, str) else urls:
        shards = list(braceexpand(url)) if isinstance(url, str) and is_local(url) else []
        # One look of a pattern of thousands; the dataset's preflight names each shard that is missing.
        if all(any(_lost('', shard)) for shard in (*shards[:1], *shards[-1:])):
            yield from (problem for shard in shards[:1] for problem in _lost(f'{path}.urls', shard))
    listed = node.get('ann_file')
    # mmengine's datasets look for it below the root, ours where it says.
    if isinstance(listed, str) and listed and '://' not in listed and not Path(listed).exists():
        yield from _lost(f'{path}.ann_file', str(Path(*roots[:1], listed)))


def _lost(key: str, path: Any) -> Iterator[str]:
    """Say that a path does not exist, and name the nearest one in the last of its folders that exists."""
    if not isinstance(path, str) or not path or '://' in path or path.startswith('pipe:'):
        return
    local = lost = Path(path).expanduser().absolute()
    if local.exists() or (glob.has_magic(path) and glob.glob(str(local), recursive=True)):
        return
    while not lost.parent.exists():
        lost = lost.parent
    names = [entry.name for entry in lost.parent.iterdir()] if lost.parent.is_dir() else []
    near = [str(lost.parent / name) for name in difflib.get_close_matches(lost.name, names, n=2, cutoff=0.5)]
    hint = meant(near) or f' The last folder of it that exists is {lost.parent}.'
    what = 'no file matches it' if glob.has_magic(path) else 'there is no such file or folder'
    yield f'{key}={path!r}: {what}.{hint}'
