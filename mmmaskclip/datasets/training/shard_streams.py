"""Which samples of which shards one loader worker reads, in which order.

Every (rank, worker) pair is a stream. All of it is a function of (seed, epoch, stream, number of streams), so that a
resumed run reads what the interrupted one would have read. Samples are raw bytes here: order never depends on whether
an image can be decoded.
"""

import logging
import random
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import Protocol

from mmengine.logging import print_log
from webdataset.gopen import Pipe, gopen, set_options
from webdataset.tariterators import tar_file_expander

from mmmaskclip.datasets.sampling import BadSample, describe, stable_hash
from mmmaskclip.datasets.training.shard_counts import is_indexable, is_local, shard_name
from mmmaskclip.datasets.training.tar_files import Sample, SampleGrouper, is_side_file, read_span, walk_samples

# Waits between the attempts to read a shard that is not a local file: 1 s, 2 s, 4 s ... Half a minute in all is longer
# than a server's hiccup and short against what a cluster waits for. Samples that arrive start the count anew.
RETRIES = 5
FIRST_WAIT = 1.0


@dataclass
class RawSample:
    """A sample as it lies in its shard.

    Attributes:
        shard: Position of its shard in the list of shards.
        index: Its position in the shard.
        key: Its name in the shard.
        files: Extension to content; empty content for those that nobody asked for.
        error: Set when it cannot be used.
        lap: How often the stream had wrapped around its shards when this was read.
    """

    shard: int
    index: int
    key: str
    files: dict[str, bytes] = field(default_factory=dict)
    error: BadSample | None = None
    lap: int = 0


class Source(Protocol):
    """Raw samples of one stream, in shard order."""

    events: list[dict[str, str]]
    """Records of what went wrong with whole shards while reading; taken away by whoever reads."""

    def read(self, wanted: Callable[[int], bool]) -> Iterator[RawSample | None]:
        """Give the samples from the stream's first on, None for those whose ordinal is not wanted."""

    def one_lap(self) -> Iterator[RawSample]:
        """Give every sample of the stream once."""


def permuted_shards(num_shards: int, seed: int, epoch: int) -> list[int]:
    """Order of the shards in an epoch, the same on all ranks."""
    return sorted(range(num_shards), key=lambda shard: stable_hash(seed, epoch, 'shard', shard))


class CountedRange:
    """A contiguous range of the samples of all shards, whose counts are known, laid end to end in the epoch's order.

    Args:
        shards: Local tar files.
        counts: Samples in each.
        order: The shards' order in this epoch.
        start: First sample of the range.
        stop: End of the range.
        extensions: Files of a sample to read; others are jumped over.
    """

    def __init__(
        self,
        shards: Sequence[str],
        counts: Sequence[int],
        order: Sequence[int],
        start: int,
        stop: int,
        extensions: set[str],
    ) -> None:
        self.events: list[dict[str, str]] = []
        self._shards, self._extensions = shards, extensions
        # (shard, first sample in the shard, end in the shard, ordinal of the first)
        self._parts: list[tuple[int, int, int, int]] = []
        ends = list(accumulate(counts[shard] for shard in order))
        for shard, end in zip(order, ends, strict=True):
            begin = end - counts[shard]
            low, high = max(begin, start), min(end, stop)
            if low < high:
                self._parts.append((shard, low - begin, high - begin, low - start))

    def names(self) -> list[str]:
        """Shards that this range touches."""
        return [shard_name(self._shards[shard]) for shard, *_ in self._parts]

    def read(self, wanted: Callable[[int], bool]) -> Iterator[RawSample | None]:
        for shard, low, high, ordinal in self._parts:
            mask = [wanted(ordinal + i) for i in range(high - low)]
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
        error = BadSample('broken_tar', 'fewer samples than were counted: the shard has changed while it was in use')
        try:
            with open(self._shards[shard], 'rb', buffering=0) as file:
                for index, entry in enumerate(walk_samples(file)):
                    if index < low:
                        continue
                    sample = None
                    if mask[done]:
                        files = {
                            name: read_span(file, span) if name in self._extensions else b''
                            for name, span in entry.files.items()
                        }
                        sample = RawSample(shard, index, entry.key, files, entry.problem)
                    done += 1
                    yield sample
                    if done == len(mask):
                        return
        except BadSample as bad:
            error = bad
        except OSError as problem:
            error = BadSample('unreadable_shard', describe(problem))
        # What could not be read keeps its place in the order, so that nothing after it moves.
        for index in range(low + done, low + len(mask)):
            yield RawSample(shard, index, f'sample {index}', error=error)


class SequentialSource:
    """Shards that can only be read from beginning to end (pipes, http, compressed), or whose counts are not known.

    The stream reads whole shards, in turn, over and over; where there are fewer shards than streams, it shares its
    shard with others and keeps every k-th sample.

    A shard that is not a local file is read again where it fails, after a wait that doubles each time
    (:data:`FIRST_WAIT`, :data:`RETRIES`), and goes on after the samples it has given already. ``events`` has a record
    ``retried_shard`` of each attempt, and one of the damage where the last failed; the rest of the shard is left out.

    Args:
        shards: Anything that ``webdataset.gopen`` opens.
        order: The shards' order in this epoch.
        stream: Which of the streams this is.
        num_streams: Number of ranks times number of workers.
    """

    def __init__(self, shards: Sequence[str], order: Sequence[int], stream: int, num_streams: int) -> None:
        self.events: list[dict[str, str]] = []
        self._shards = shards
        self._mine = [order[i] for i in range(stream % len(order), len(order), num_streams)]
        self._offset = stream // len(order)
        self._stride = len(range(stream % len(order), num_streams, len(order))) if len(order) < num_streams else 1

    def names(self) -> list[str]:
        """Shards that this stream reads."""
        return [shard_name(self._shards[shard]) for shard in self._mine]

    def read(self, wanted: Callable[[int], bool]) -> Iterator[RawSample | None]:
        ordinal = 0
        for lap in count():
            before, num_events = ordinal, len(self.events)
            for sample in self.one_lap(lap):
                yield sample if wanted(ordinal) else None
                ordinal += 1
            if ordinal == before:
                final = [event for event in self.events[num_events:] if event['cause'] != 'retried_shard']
                found = '; '.join(f'{event["shard"]}: {event["detail"]}' for event in final[:5])
                raise RuntimeError(
                    f'no sample in {_some(self.names())}: {found or "fewer samples than streams that share it"}. '
                    'Check the urls, make more shards, or use fewer workers.'
                )

    def one_lap(self, lap: int = 0) -> Iterator[RawSample]:
        for shard in self._mine:
            url = self._shards[shard]
            read = 0  # samples of the shard so far, over all attempts
            failures = 0  # attempts in a row without a new sample
            while True:
                before = read
                try:
                    for index, sample in enumerate(_samples(url)):
                        if index < read:
                            continue  # of an earlier attempt
                        read = index + 1
                        if index % self._stride == self._offset % self._stride:
                            yield RawSample(shard, index, sample.key, sample.files, sample.problem, lap)
                    break
                except MemoryError:
                    raise
                except Exception as problem:  # whatever a pipe, curl, tarfile or a decompressor may raise
                    located = _located(problem, read)
                failures = 1 if read > before else failures + 1
                final = is_local(url) or failures > RETRIES
                # Local files do not get better; what a server gives up on is skipped, and counted, like damage.
                cause = located.cause if final else 'retried_shard'
                self.events.append(BadSample(cause, located.detail).record('', shard_name(url)))
                if final:
                    break
                _wait(url, failures, located)


def _located(problem: Exception, read: int) -> BadSample:
    if isinstance(problem, BadSample):
        return BadSample(problem.cause, f'after {read} samples: {problem.detail}')
    return BadSample('broken_tar' if read else 'unreadable_shard', f'after {read} samples: {describe(problem)}')


def _wait(url: str, failures: int, problem: BadSample) -> None:
    seconds = FIRST_WAIT * 2 ** (failures - 1)
    print_log(
        f'{shard_name(url)}: {problem.detail}. Attempt {failures + 1} of {RETRIES + 1} in {seconds:g} s.',
        logger='current',
        level=logging.WARNING,
    )
    time.sleep(seconds)


def _samples(url: str) -> Iterator[Sample[bytes]]:
    """Gives every sample of a shard; local files are walked, because ``tarfile`` hides damage inside."""
    if is_indexable(url):
        with open(url, 'rb', buffering=0) as file:
            for entry in walk_samples(file):
                files = {name: read_span(file, span) for name, span in entry.files.items()}
                yield Sample(entry.key, files, entry.problem)
    else:
        yield from stream_samples(url)


def stream_samples(url: str) -> Iterator[Sample[bytes]]:
    """Gives every sample of a shard that a command or an address delivers.

    The command is killed when it is left before its end.

    Args:
        url: As :func:`webdataset.gopen` takes it, ``pipe:...`` for a command.

    Raises:
        OSError: If the command fails.
        tarfile.TarError: If what it gives is no tar file.
    """
    stream = gopen(url)
    command = isinstance(stream, Pipe)
    # Else a read raises as soon as the command has failed, and how much of its output is lost depends on timing.
    set_options(stream, ignore_errors=True)
    grouper: SampleGrouper[bytes] = SampleGrouper()
    shard = [{'url': url, 'stream': stream}]
    try:
        for member in tar_file_expander(shard, select_files=lambda name: not is_side_file(name), eof_value=None):
            sample = grouper.add(member['fname'], member['data'])
            if sample is not None:
                yield sample
        # A connection that breaks between two files looks like the end of the tar file; only the exit status of what
        # reads it tells, and the last sample may then lack files.
        while stream.read(1 << 20):
            pass
        stream.close()
    except tarfile.TarError as problem:
        status = stream.proc.poll() if command else None
        if status:
            raise OSError(f'exit status {status} of the command, {describe(problem)}') from problem
        raise
    finally:
        # Else a command that is left before its end is waited for, for ever if it is stuck.
        if command and stream.status is None:
            stream.proc.kill()
    if command and stream.status not in stream.ignore_status:
        raise OSError(f'exit status {stream.status} of the command')
    if grouper.held is not None:
        yield grouper.held


class ShuffledReader:
    """Shuffles the samples of a source in a buffer of raw bytes.

    Which sample is drawn when depends on positions only, so that the first draws can be skipped without reading more
    than what is still in the buffer afterwards.

    Args:
        source: What to read.
        buffer_size: Samples in the buffer.
        seed: Seed of the draws.
        total: Samples to draw: the first so many of the source.
        skip: Draws to leave out.
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
        """Give the samples in the buffer, from a place on that the seed decides."""
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
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')
