"""Finds tar shards and counts their samples, once."""

import glob
import hashlib
import json
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from braceexpand import braceexpand
from mmengine.dist import all_gather_object, broadcast_object_list, get_rank, get_world_size
from mmengine.logging import print_log

from mmmaskclip.datasets.sampling import BadSample, describe
from mmmaskclip.datasets.training.tar_files import walk_samples
from mmmaskclip.utils.store import compare_ranks, own_store

INDEX_NAME = '.mmmaskclip_index.json'
_THREADS = 16
_ANYONE_WRITES = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def expand_urls(urls: str | Sequence[str]) -> list[str]:
    """List the shards that a pattern, or several, stand for.

    Args:
        urls: A path or url, with braces (``{00000..00099}.tar``) or, for local files, wildcards; or a list of such.
            ``pipe:COMMAND`` is taken as it is, except for braces.

    Returns:
        The shards, in the order of the patterns; the matches of a wildcard are sorted.

    Raises:
        FileNotFoundError: A wildcard matches nothing.
    """
    shards: list[str] = []
    for pattern in [urls] if isinstance(urls, str) else urls:
        for url in braceexpand(os.fspath(pattern)):
            if is_local(url) and glob.has_magic(url) and not os.path.exists(url):
                matches = sorted(glob.glob(os.path.expanduser(url), recursive=True))
                if not matches:
                    raise FileNotFoundError(f'no shard matches {url!r} (seen from {os.getcwd()})')
                shards.extend(matches)
            else:
                shards.append(os.path.expanduser(url) if is_local(url) else url)
    if not shards:
        raise ValueError(f'urls={urls!r} names no shard')
    return shards


def is_local(url: str) -> bool:
    """Whether a shard is a file of this machine, as opposed to ``pipe:...`` or ``SCHEME://...``."""
    return '://' not in url and not url.startswith('pipe:')


def is_indexable(url: str) -> bool:
    """Whether samples of a shard can be counted and jumped to without reading it."""
    return is_local(url) and not url.endswith(('.gz', '.bz2', '.xz', '.zst'))


def shard_name(url: str) -> str:
    """Short name of a shard for keys and messages."""
    return url.rstrip('/').rpartition('/')[2]


def scan_shard(path: str) -> dict[str, Any]:
    """Count the samples of one local shard by its headers.

    Returns:
        dict: ``size`` and ``mtime`` of the file (to notice changes), ``samples``, and, when it cannot be read or is
        damaged, ``cause`` and ``detail``, with ``samples`` = those before the damage.
    """
    entry: dict[str, Any] = {'size': -1, 'mtime': -1, 'samples': 0}
    try:
        with open(path, 'rb', buffering=0) as file:
            status = os.fstat(file.fileno())
            entry.update(size=status.st_size, mtime=status.st_mtime_ns)
            for _ in walk_samples(file):
                entry['samples'] += 1
    except BadSample as bad:
        entry.update(cause=bad.cause, detail=bad.detail)
    except OSError as error:
        entry.update(cause='unreadable_shard', detail=describe(error))
    return entry


def count_samples(shards: Sequence[str], index_dir: str | None = None) -> list[dict[str, Any]]:
    """Look up, or find out, how many samples each shard has. Collective: every rank must call it.

    Shards that the index does not know, or that have changed since, are scanned: each rank scans its share with
    threads, and rank 0 writes the index for the next time.

    Args:
        shards: Local, uncompressed tar files.
        index_dir: Folder of the index. Default: one file in each folder of shards, or in the user's cache folder where
            that is not writable.

    Returns:
        For each shard what :func:`scan_shard` found.

    Raises:
        RuntimeError: On all ranks, if their lists of shards differ: epochs of different length would end in a hang.
    """
    if (store := own_store()) is not None:
        digest = hashlib.sha256('\n'.join(shards).encode()).hexdigest()[:12]
        facts = {'list of shards': f'{len(shards)} files ({digest})'}
        compare_ranks(facts, 'shards', store, get_rank(), get_world_size())
    cache = _IndexCache(index_dir)
    known: list[Any] = [cache.lookup(shards)] if get_rank() == 0 else [None]
    broadcast_object_list(known)
    entries: dict[str, dict[str, Any]] = known[0]
    missing = [path for path in dict.fromkeys(shards) if path not in entries]
    if missing:
        if len(missing) > 100:
            print_log(f'Counting the samples of {len(missing)} shards, once.', logger='current')
        mine = missing[get_rank() :: get_world_size()]
        with ThreadPoolExecutor(_THREADS) as threads:
            scanned = dict(zip(mine, threads.map(scan_shard, mine), strict=True))
        for part in all_gather_object(scanned):
            entries.update(part)
        if get_rank() == 0:
            cache.store({path: entries[path] for path in missing})
    return [entries[path] for path in shards]


class _IndexCache:
    """A small json per folder of shards: file name to what :func:`scan_shard` found."""

    def __init__(self, index_dir: str | None) -> None:
        self._index_dir = index_dir

    def lookup(self, shards: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Find what is known about shards and still true."""
        files: dict[str, dict[str, Any]] = {}
        found = {}
        for path in shards:
            folder = os.path.dirname(os.path.abspath(path))
            if folder not in files:
                files[folder] = self._read(folder)
            entry = files[folder].get(os.path.basename(path))
            try:
                status = os.stat(path)
            except OSError:
                continue
            if entry and (entry['size'], entry['mtime']) == (status.st_size, status.st_mtime_ns):
                found[path] = entry
        return found

    def store(self, entries: dict[str, dict[str, Any]]) -> None:
        """Add entries; a folder that cannot be written costs the next run a scan, nothing else."""
        folders: dict[str, dict[str, Any]] = {}
        for path, entry in entries.items():
            if entry['size'] >= 0:
                folder = os.path.dirname(os.path.abspath(path))
                folders.setdefault(folder, {})[os.path.basename(path)] = entry
        for folder, new in folders.items():
            content = json.dumps({**self._read(folder), **new}, indent=0)
            for target in self._candidates(folder):
                temporary = target.with_name(f'{target.name}.{os.getpid()}')
                if target.parent.is_dir() and not target.parent.stat().st_mode & _ANYONE_WRITES:
                    # Meant to be left alone, though root, as in most containers, would get away with writing.
                    continue
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    temporary.write_text(content)
                    os.replace(temporary, target)
                    break
                except OSError:
                    continue

    def _read(self, folder: str) -> dict[str, Any]:
        for target in self._candidates(folder):
            try:
                content = json.loads(target.read_text())
            except (OSError, ValueError):
                continue
            if isinstance(content, dict):
                return content
        return {}

    def _candidates(self, folder: str) -> list[Path]:
        name = f'{hashlib.sha1(folder.encode()).hexdigest()[:16]}.json'
        if self._index_dir is not None:
            return [Path(self._index_dir) / name]
        user = Path(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'))
        return [Path(folder) / INDEX_NAME, user / 'mmmaskclip' / 'index' / name]
