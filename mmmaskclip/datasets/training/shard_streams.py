"""The order of samples: which samples of which shards a loader worker reads, and when.

Every (rank, worker) pair is a stream. The ordinal of a sample is its position in its stream, from 0 in each epoch.
Shards, samples and their order are a function of (seed, epoch, stream, number of streams). So a resumed run reads what
the interrupted one would have read. Samples are raw bytes here: a damaged image does not change the order.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import numpy as np

from mmmaskclip.datasets.sampling import BadSample, describe, stable_hash
from mmmaskclip.datasets.training.seen_counts import SeenCounts
from mmmaskclip.datasets.training.shard_reading import ShardReader
from mmmaskclip.datasets.training.shard_urls import is_indexable, shard_name
from mmmaskclip.datasets.training.tar_files import read_span, walk_samples


@dataclass
class RawSample:
    """A sample before decoding.

    Attributes:
        shard: Position of its shard in the list of shards.
        index: Its position in the shard.
        key: Its name in the shard.
        files: Content by extension; empty for the extensions that the dataset does not use.
        error: Reason why the sample cannot be used; None if it can.
        lap: Number of times that the stream had started over its shards before.
    """

    shard: int
    index: int
    key: str
    files: dict[str, bytes] = field(default_factory=dict)
    error: BadSample | None = None
    lap: int = 0


class Source(Protocol):
    """Raw samples of one stream, in shard order."""

    def take_events(self) -> list[dict[str, Any]]:
        """Return the records of faults of whole shards since the last call."""

    def names(self) -> list[str]:
        """Shards that the stream reads."""

    def read(self, is_needed: Callable[[int], bool]) -> Iterator[RawSample | None]:
        """Yield the samples from ordinal 0 on, None in place of those whose ordinal is not needed."""

    def one_lap(self) -> Iterator[RawSample]:
        """Yield every sample of the stream once."""


def permuted_shards(num_shards: int, seed: int, epoch: int) -> list[int]:
    """The order of the shards in an epoch, the same on all ranks."""
    return sorted(range(num_shards), key=lambda shard: stable_hash(seed, epoch, 'shard', shard))


class CountedRange:
    """A contiguous range of the samples of all shards, whose counts are known, laid end to end in the epoch's order.

    The range skips shards without a needed sample. In a local tar file it jumps from header to header. Other shards (a
    command, an address, a compressed file) it reads from the beginning; where reading fails,
    :class:`~.shard_reading.ShardReader` tries again.

    Args:
        shards: Tar files, or anything that ``webdataset.gopen`` opens.
        counts: Samples in each of the S shards, int64 (S,).
        order: The shards' order in this epoch.
        start: First sample of the range, counted over all shards in that order.
        stop: One past the last sample, counted likewise.
        extensions: Extensions of the files to read; other files are skipped.
    """

    def __init__(
        self,
        shards: Sequence[str],
        counts: np.ndarray,
        order: Sequence[int],
        start: int,
        stop: int,
        extensions: set[str],
    ) -> None:
        self._shards, self._extensions = shards, extensions
        self._reader = ShardReader(shards)
        ends = np.cumsum(counts[np.asarray(order, dtype=np.int64)])
        # (shard, first sample within the shard, the one after the last, ordinal of the first)
        self._parts: list[tuple[int, int, int, int]] = []
        first = int(np.searchsorted(ends, start, side='right'))
        for shard, end in zip(order[first:], ends[first:].tolist(), strict=True):
            begin = end - int(counts[shard])
            if begin >= stop:
                break
            low, high = max(begin, start), min(end, stop)
            if low < high:
                self._parts.append((shard, low - begin, high - begin, low - start))

    def names(self) -> list[str]:
        """Shards that this range touches."""
        return [shard_name(self._shards[shard]) for shard, *_ in self._parts]

    def take_events(self) -> list[dict[str, Any]]:
        events, self._reader.events = self._reader.events, []
        return events

    def read(self, is_needed: Callable[[int], bool]) -> Iterator[RawSample | None]:
        for shard, low, high, ordinal in self._parts:
            mask = [is_needed(ordinal + i) for i in range(high - low)]
            if any(mask):
                yield from self._read_part(shard, low, mask)
            else:
                yield from (None for _ in mask)

    def one_lap(self) -> Iterator[RawSample]:
        for sample in self.read(lambda _: True):
            assert sample is not None
            yield sample

    def _read_part(self, shard: int, low: int, mask: list[bool]) -> Iterator[RawSample | None]:
        done = 0
        error = BadSample('broken_tar', 'the shard has fewer samples than its count: it has changed while in use')
        try:
            samples = self._jump(shard, low, mask) if is_indexable(self._shards[shard]) else self._run(shard, low)
            for sample in samples:
                done += 1
                yield sample if mask[done - 1] else None
                if done == len(mask):
                    return
            error = self._reader.failure or error
        except BadSample as bad:
            error = bad
        except OSError as problem:
            error = BadSample('unreadable_shard', describe(problem))
        # Unreadable samples keep their places in the order, so that no later sample moves.
        for index in range(low + done, low + len(mask)):
            yield RawSample(shard, index, f'sample {index}', error=error)

    def _jump(self, shard: int, low: int, mask: list[bool]) -> Iterator[RawSample | None]:
        """The samples of a local shard from ``low`` on; only those in the mask are read."""
        with open(self._shards[shard], 'rb', buffering=0) as file:
            for index, entry in enumerate(walk_samples(file)):
                if index < low:
                    continue
                if not mask[index - low]:
                    yield None
                    continue
                files = {
                    name: read_span(file, span) if name in self._extensions else b''
                    for name, span in entry.files.items()
                }
                yield RawSample(shard, index, entry.key, files, entry.problem)

    def _run(self, shard: int, low: int) -> Iterator[RawSample]:
        """The samples from ``low`` on of a shard that can only be read from its beginning."""
        for index, sample in self._reader.read(shard):
            if index >= low:
                yield RawSample(shard, index, sample.key, sample.files, sample.problem)


class SequentialSource:
    """Shards with unknown counts: the stream reads whole shards in turn, and starts over at the end.

    With fewer shards than streams, a stream shares its shard with others and keeps every k-th sample. The stream skips
    a shard without a needed sample if an earlier pass has counted it. Events say how many samples are lost with a shard
    that fails for good, and how many samples come again in this epoch.

    Args:
        shards: Anything that ``webdataset.gopen`` opens.
        order: The shards' order in this epoch.
        stream: Which of the streams this is.
        num_streams: Number of ranks times number of workers.
        total: Samples that the stream gives in this epoch.
        expected: Samples in a shard, roughly; used for shards whose count is not known.
        seen: Counts of shards that have been read to their end, see :class:`~.shard_counts.SeenCounts`.
    """

    def __init__(
        self,
        shards: Sequence[str],
        order: Sequence[int],
        stream: int,
        num_streams: int,
        total: int = 0,
        expected: float = 0,
        seen: SeenCounts | None = None,
    ) -> None:
        self._shards, self._reader = shards, ShardReader(shards)
        # With S shards and more streams than shards, streams i, i + S, i + 2 S, ... share the shard at place i of
        # the order: each keeps every `stride`-th sample, from `offset` on.
        self._mine = [order[i] for i in range(stream % len(order), len(order), num_streams)]
        self._stride = len(range(stream % len(order), num_streams, len(order))) if len(order) < num_streams else 1
        self._offset = stream // len(order) % self._stride
        self._total, self._expected, self._seen = total, expected, seen

    def names(self) -> list[str]:
        """Shards that this stream reads."""
        return [shard_name(self._shards[shard]) for shard in self._mine]

    def take_events(self) -> list[dict[str, Any]]:
        events, self._reader.events = self._reader.events, []
        return events

    def read(self, is_needed: Callable[[int], bool]) -> Iterator[RawSample | None]:
        ordinal = 0
        for lap in count():
            before, failures = ordinal, []
            for shard in self._mine:
                known = self._seen.get(shard) if self._seen else None
                share = 0 if known is None else len(range(self._offset, known, self._stride))
                if share and not any(is_needed(ordinal + i) for i in range(share)):
                    yield from (None for _ in range(share))
                    ordinal += share
                    continue
                for sample in self._read_shard(shard, lap):
                    yield sample if is_needed(ordinal) else None
                    ordinal += 1
                if self._reader.failure:
                    failures.append(f'{shard_name(self._shards[shard])}: {self._reader.failure.detail}')
            if ordinal == before:
                found = '; '.join(failures[:5]) or 'fewer samples than streams that share it'
                raise RuntimeError(
                    f'no sample in {_some(self.names())}: {found}. Check the urls, make more shards, or use fewer '
                    'workers.'
                )
            if lap == 0 and ordinal < self._total:
                detail = f'{_some(self.names())} gave {ordinal} samples, and num_samples means {self._total}'
                again = BadSample('repeated_sample', f'{detail}: the stream starts over')
                self._reader.events.append(again.record('', '', self._total - ordinal))

    def one_lap(self, lap: int = 0) -> Iterator[RawSample]:
        for shard in self._mine:
            yield from self._read_shard(shard, lap)

    def _read_shard(self, shard: int, lap: int) -> Iterator[RawSample]:
        done = 0
        for index, sample in self._reader.read(shard):
            done = index + 1
            if index % self._stride == self._offset:
                yield RawSample(shard, index, sample.key, sample.files, sample.problem, lap)
        failure = self._reader.failure
        if failure is not None:
            known = self._seen.get(shard) if self._seen else None
            lost = max(1, round(((known or self._expected) - done) / self._stride))
            self._reader.events.append(failure.record('', shard_name(self._shards[shard]), lost))
        elif self._seen is not None:
            self._seen.add(shard, done)


class ShuffledReader:
    """Shuffles the samples of a source in a buffer of raw bytes.

    The draws depend on positions only. So a resumed run can skip the first draws and reads only the samples that are
    still in the buffer after them.

    Args:
        source: What to read.
        buffer_size: Samples in the buffer.
        seed: Seed of the draws.
        total: Samples to draw; they are the source's first ``total``.
        skip: Draws of the interrupted run, which are repeated without reading.
    """

    def __init__(self, source: Source, buffer_size: int, seed: int, total: int, skip: int) -> None:
        self._source, self._random = source, random.Random(seed)
        self._total = total
        self._next = min(buffer_size, total)
        self._waiting = list(range(self._next))
        for _ in range(skip):
            self._draw()
        self._loaded: dict[int, RawSample] = {}

    def __iter__(self) -> Iterator[RawSample]:
        waiting, first_unread = set(self._waiting), self._next
        samples = enumerate(self._source.read(lambda ordinal: ordinal >= first_unread or ordinal in waiting))
        while self._waiting:
            while len(self._loaded) < len(self._waiting):
                ordinal, sample = next(samples)
                if sample is not None:
                    self._loaded[ordinal] = sample
            yield self._loaded.pop(self._draw())

    def others(self, seed: int) -> Iterator[RawSample]:
        """Yield the samples in the buffer, as substitutes for a bad one; the seed decides the first."""
        waiting = [ordinal for ordinal in self._waiting if ordinal in self._loaded]
        start = seed % len(waiting) if waiting else 0
        for ordinal in waiting[start:] + waiting[:start]:
            yield self._loaded[ordinal]

    def _draw(self) -> int:
        waiting = self._waiting
        position = self._random.randrange(len(waiting))
        drawn = waiting[position]
        if self._next < self._total:
            waiting[position] = self._next
            self._next += 1
        else:
            waiting[position] = waiting[-1]
            waiting.pop()
        return drawn


def _some(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')
