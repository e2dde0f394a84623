"""Counts the samples of tar shards, once; an interrupted count resumes."""

import hashlib
import json
import os
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, broadcast_object_list, get_rank, get_world_size
from mmengine.logging import print_log

from mmmaskclip.datasets.sampling import BadSample, describe
from mmmaskclip.datasets.text_files import read_json
from mmmaskclip.datasets.training.seen_counts import named_lines, user_folder
from mmmaskclip.datasets.training.shard_urls import shard_name
from mmmaskclip.datasets.training.tar_files import walk_samples
from mmmaskclip.utils.store import gather_on_store, together

INDEX_NAME = '.mmmaskclip_index.json'
_THREADS = 16
_ANYONE_WRITES = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
# Seconds between two writes of the counts, and between two lines in the log.
_FLUSH = 5.0
_HEARTBEAT = 30.0
# If img2dataset's statistics are right for so many shards of a rank, they are trusted for the others.
_PROVED_NOTES = 3
_ESTIMATED_FROM = 64


@dataclass(frozen=True)
class ShardCounts:
    """Samples of each shard, in columns, because every worker would copy 200,000 dicts.

    Attributes:
        samples: int64 (S,); of a damaged shard, the samples before the damage.
        damage: By position of a damaged shard: cause, detail, and roughly the number of lost samples.
    """

    samples: np.ndarray
    damage: dict[int, tuple[str, str, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Samples in all shards."""
        return int(self.samples.sum())

    def records(self, shards: Sequence[str]) -> list[dict[str, Any]]:
        """Records of the damaged shards, for ``sample['skipped']``."""
        mean = self.total // max(1, len(self.samples) - len(self.damage))
        return [
            # A shard that cannot be opened is counted as an average shard.
            BadSample(cause, detail).record('', shard_name(shards[shard]), lost or max(1, mean))
            for shard, (cause, detail, lost) in self.damage.items()
        ]


def scan_shard(path: str) -> list[Any]:
    """Count the samples of one local shard by its headers.

    Returns:
        list: size and modification time of the file (to notice changes), number of samples. For a shard that cannot be
        read or is damaged also the cause, the detail, and the number of lost samples, estimated by size (0: unknown).
    """
    size, modified, samples = -1, -1, 0
    end = 0
    try:
        with open(path, 'rb', buffering=0) as file:
            status = os.fstat(file.fileno())
            size, modified = status.st_size, status.st_mtime_ns
            for sample in walk_samples(file):
                samples += 1
                end = max(offset + length for offset, length in sample.files.values())
    except BadSample as bad:
        lost = round((size - end) / end * samples) if samples else 0
        return [size, modified, samples, bad.cause, bad.detail, max(1, lost) if samples else 0]
    except OSError as error:
        return [size, modified, samples, 'unreadable_shard', describe(error), 0]
    return [size, modified, samples]


def count_samples(shards: Sequence[str], index_dir: str | None = None) -> ShardCounts:
    """Look up or count the samples of each shard. Collective: every rank must call it.

    Each rank counts every ``world_size``-th shard. Threads scan the shards that are missing in the index or have
    changed since. The counts are written every few seconds, so that an interrupted scan resumes. If img2dataset has
    left its statistics (``00000_stats.json``), and the first of them are right, they replace the scan.

    Args:
        shards: Local, uncompressed tar files.
        index_dir: Folder of the index. Default: one file in each folder of shards, or in the user's cache folder where
            that is not writable.
    """
    names = list(dict.fromkeys(shards))
    mine = names[get_rank() :: get_world_size()]
    index = _Index(index_dir)
    entries: dict[str, list[Any]] = {}
    if len(mine) > 100:
        print_log(f'Counting the samples of {len(names)} shards.', logger='current')
    heard = time.monotonic()
    with together('counting shards'):
        for path, entry in _entries(mine, index):
            entries[path] = entry
            if time.monotonic() - heard > _HEARTBEAT:
                heard = time.monotonic()
                print_log(f'Counted {len(entries)} of {len(mine)} shards of this rank.', logger='current')
        index.flush()
    for part in all_gather_object(entries):
        entries.update(part)
    if get_rank() == 0:
        index.merge(entries)
    found = [entries[path] for path in shards]
    damage = {i: (entry[3], entry[4], entry[5]) for i, entry in enumerate(found) if len(entry) > 3}
    return ShardCounts(np.array([entry[2] for entry in found], dtype=np.int64), damage)


def estimate_samples(shards: Sequence[str], index_dir: str | None = None) -> tuple[int, bool]:
    """Estimate the number of samples from the sizes of some shards and the counts that are known.

    Known are the shards of the index and those with statistics of img2dataset. If there are none, the first shard is
    counted.

    Args:
        shards: Local, uncompressed tar files.
        index_dir: See :func:`count_samples`.

    Returns:
        The number, and whether it is exact.
    """
    index, size, known_size, known = _Index(index_dir), 0, 0, 0
    chosen = [shards[i] for i in np.unique(np.linspace(0, len(shards) - 1, _ESTIMATED_FROM).astype(int))]
    counted = 0
    for path in chosen:
        status = _status(path)
        entry = index.lookup(path, *status) if isinstance(status, tuple) else status
        if entry is None and not known and _noted(path) is None:
            entry = scan_shard(path)
        counted += entry is not None
        samples = _noted(path) if entry is None else entry[2]
        size += max(0, status[0])
        if samples:
            known, known_size = known + samples, known_size + status[0]
    if counted == len(shards):
        return known, True
    return round(known * size / max(1, known_size) * len(shards) / len(chosen)), False


def check_same_shards(shards: Sequence[str]) -> None:
    """Check that all ranks have found the same shards. Collective.

    Every rank reads its own disks, so a wildcard may match other files on another node. With lists of different lengths
    the ranks would wait for each other at the end of the epoch, for ever.

    Raises:
        ValueError: On every rank, if they differ; the message names hosts, numbers and examples.
    """
    digest = hashlib.sha1('\n'.join(shards).encode('utf-8', 'surrogatepass')).hexdigest()
    found = gather_on_store((digest, len(shards), socket.gethostname()), 'list of shards')
    if len({digest for digest, *_ in found}) == 1:
        return
    first: list[Any] = [list(shards) if get_rank() == 0 else None]
    broadcast_object_list(first)
    lacking = all_gather_object(sorted({*first[0]} - {*shards})[:3])
    surplus = all_gather_object(sorted({*shards} - {*first[0]})[:3])
    lines = []
    for rank, (other, number, host) in enumerate(found):
        if other != found[0][0]:
            examples = [f'without {", ".join(names)}' for names in [lacking[rank]] if names]
            examples += [f'with {", ".join(names)}' for names in [surplus[rank]] if names]
            lines.append(f'  rank {rank} on {host}: {number} shards, {"; ".join(examples) or "in another order"}')
    raise ValueError(
        f'Ranks find other shards than rank 0 on {found[0][2]}, which finds {found[0][1]}:\n'
        + '\n'.join(lines[:20])
        + '\nMake the copies of the data equal, or write urls with braces ({00000..01999}.tar).'
    )


def _entries(paths: Sequence[str], index: '_Index') -> Iterator[tuple[str, list[Any]]]:
    """Yield each shard with its entry, from the index, the statistics or a scan, in order."""
    with ThreadPoolExecutor(_THREADS) as threads:
        status = list(threads.map(_status, paths))
        known = [
            found if isinstance(found, list) else index.lookup(path, *found)
            for path, found in zip(paths, status, strict=True)
        ]
        believe = _notes_are_right([path for path, entry in zip(paths, known, strict=True) if entry is None])

        def entry(number: int) -> list[Any]:
            found = known[number]
            if found is None and believe and (samples := _noted(paths[number])) is not None:
                found = [*status[number], samples]
            return scan_shard(paths[number]) if found is None else found

        for number, found in enumerate(threads.map(entry, range(len(paths)))):
            if known[number] is None:
                index.add(paths[number], found)
            yield paths[number], found


def _status(path: str) -> list[Any] | tuple[int, int]:
    """Size and modification time of a shard, or its entry if it cannot be read."""
    try:
        status = os.stat(path)
    except OSError as error:
        return [-1, -1, 0, 'unreadable_shard', describe(error), 0]
    return status.st_size, status.st_mtime_ns


def _noted(path: str) -> int | None:
    """Number of samples in the statistics that img2dataset has left beside a shard."""
    try:
        return int(json.loads(Path(f'{path.removesuffix(".tar")}_stats.json').read_bytes())['successes'])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _notes_are_right(paths: Sequence[str]) -> bool:
    noted = [_noted(path) for path in paths[:_PROVED_NOTES]]
    return bool(noted) and all(
        samples is not None and scan_shard(path)[2:] == [samples] for path, samples in zip(paths, noted, strict=False)
    )


class _Index:
    """A small json per folder of shards: file name to the result of :func:`scan_shard`.

    While shards are counted, each rank appends its results to its own file beside the index; rank 0 merges the files.
    """

    def __init__(self, index_dir: str | None) -> None:
        self._index_dir = index_dir
        self._known: dict[str, dict[str, list[Any]]] = {}
        self._new: dict[str, dict[str, list[Any]]] = {}
        self._flushed = time.monotonic()

    def lookup(self, path: str, size: int, modified: int) -> list[Any] | None:
        """The entry of a shard that has not changed since; else None."""
        folder, name = os.path.split(os.path.abspath(path))
        if folder not in self._known:
            self._known[folder] = self._read(folder)
        entry = self._known[folder].get(name)
        return entry if isinstance(entry, list) and entry[:2] == [size, modified] else None

    def add(self, path: str, entry: list[Any]) -> None:
        """Add the result of a scan; every few seconds all new results are written."""
        if entry[0] < 0:
            return
        folder, name = os.path.split(os.path.abspath(path))
        self._new.setdefault(folder, {})[name] = entry
        if time.monotonic() - self._flushed > _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Append the new results to this rank's files. For a folder that is not writable, the next run scans again."""
        new, self._new, self._flushed = self._new, {}, time.monotonic()
        for folder, entries in new.items():
            lines = ''.join(f'{json.dumps([name, entry])}\n' for name, entry in entries.items())
            for target in self._writable(folder):
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with open(f'{target}.rank{get_rank()}', 'a', encoding='utf-8') as file:
                        file.write(lines)
                    break
                except OSError:
                    continue

    def merge(self, entries: dict[str, list[Any]]) -> None:
        """Write one index per folder, which replaces the files of the ranks."""
        folders: dict[str, dict[str, list[Any]]] = {}
        for path, entry in entries.items():
            folder, name = os.path.split(os.path.abspath(path))
            if entry[0] >= 0:
                folders.setdefault(folder, {})[name] = entry
        for folder, new in folders.items():
            before = self._read(folder)
            parts = [part for target in self._candidates(folder) for part in self._parts(target)]
            if not parts and all(before.get(name) == entry for name, entry in new.items()):
                continue
            content = json.dumps({**before, **new}, separators=(',', ':'))
            for target in self._writable(folder):
                temporary = target.with_name(f'{target.name}.{os.getpid()}')
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    temporary.write_text(content, encoding='utf-8')
                    os.replace(temporary, target)
                    for part in parts:
                        part.unlink(missing_ok=True)
                    break
                except OSError:
                    continue

    def _read(self, folder: str) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for target in reversed(self._candidates(folder)):
            try:
                content = json.loads(target.read_text(encoding='utf-8'))
                found.update(content if isinstance(content, dict) else {})
            except (OSError, ValueError):
                pass
            for part in self._parts(target):
                found.update(named_lines(part))
        return found

    @staticmethod
    def _parts(target: Path) -> list[Path]:
        return sorted(target.parent.glob(f'{target.name}.rank*')) if target.parent.is_dir() else []

    def _writable(self, folder: str) -> list[Path]:
        # A read-only folder stays untouched, although root, the user of most containers, could write there.
        return [
            target
            for target in self._candidates(folder)
            if not target.parent.is_dir() or target.parent.stat().st_mode & _ANYONE_WRITES
        ]

    def _candidates(self, folder: str) -> list[Path]:
        name = f'{hashlib.sha1(folder.encode()).hexdigest()[:16]}.json'
        if self._index_dir is not None:
            return [Path(self._index_dir) / name]
        return [Path(folder) / INDEX_NAME, user_folder(None) / name]


def read_counts(path: str, shards: Sequence[str]) -> ShardCounts:
    """Read given counts of shards that cannot be counted from here.

    Args:
        path: A json file ``{"00000.tar": 9876, ...}``, or a folder of img2dataset's statistics (``00000_stats.json``).
        shards: The shards; the file names them without folders.

    Raises:
        ValueError: If a shard is missing or its count is no number; the message names some of them.
    """
    names = [shard_name(url).split(' ')[0] for url in shards]
    if os.path.isdir(path):
        counts = {name: _noted(os.path.join(path, name)) for name in names}
    else:
        content = read_json(path)
        counts = content if isinstance(content, dict) else {}
    wrong = [name for name in names if not isinstance(counts.get(name), int) or counts[name] < 0]
    if wrong:
        raise ValueError(
            f'num_samples={path!r} has no number of samples for {len(wrong)} of {len(names)} shards: '
            f'{", ".join(wrong[:5])}; a file is {{"00000.tar": 9876, ...}}, a folder holds 00000_stats.json, ...'
        )
    return ShardCounts(np.array([counts[name] for name in names], dtype=np.int64))
