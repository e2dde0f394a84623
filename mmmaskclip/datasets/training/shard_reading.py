"""Reads shards from their beginning, and retries after an error."""

import logging
import tarfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.logging import print_log
from webdataset.gopen import Pipe, gopen, set_options
from webdataset.tariterators import tar_file_expander

from mmmaskclip.datasets.sampling import BadSample, describe
from mmmaskclip.datasets.training.shard_urls import is_indexable, is_local, shard_name
from mmmaskclip.datasets.training.tar_files import (
    JOINED,
    NO_END,
    Sample,
    SampleGrouper,
    is_side_file,
    read_span,
    walk_samples,
)

# Waits between the attempts to read a remote shard: 1 s, 2 s, 4 s ... Half a minute in all is longer than a server's
# hiccup and shorter than a cluster's time limits. A new sample resets the count of attempts.
RETRIES = 5
FIRST_WAIT = 1.0
# So many shards in a row without a sample are an outage, not damage.
MOST_LOST_SHARDS = 3
_BLOCK = 512


class ShardReader:
    """Reads shards from beginning to end, for one stream.

    After an error, a remote shard is read again. The wait doubles each time (:data:`FIRST_WAIT`, :data:`RETRIES`), and
    samples that were read before are left out. ``events`` has a record ``retried_shard`` of each attempt.

    Args:
        shards: Tar files, or anything that ``webdataset.gopen`` opens.

    Attributes:
        failure: Reason why the rest of the last shard is lost; None if it was read to its end.
    """

    def __init__(self, shards: Sequence[str]) -> None:
        self.events: list[dict[str, Any]] = []
        self.failure: BadSample | None = None
        self._shards = shards
        self._lost: list[str] = []

    def read(self, shard: int) -> Iterator[tuple[int, Sample[bytes]]]:
        """Yield the samples of a shard with their positions, over all attempts.

        Raises:
            RuntimeError: If :data:`MOST_LOST_SHARDS` remote shards in a row gave no sample; the message names them.
        """
        url = self._shards[shard]
        self.failure = None
        done = failures = 0  # failures: attempts in a row without a new sample
        while True:
            before = done
            try:
                for index, sample in enumerate(open_shard(url)):
                    if index >= done:  # else of an earlier attempt
                        done = index + 1
                        self._lost = []
                        yield index, sample
                return
            except MemoryError:
                raise
            except Exception as problem:  # whatever a pipe, curl, tarfile or a decompressor may raise
                located = _located(problem, done)
            failures = 1 if done > before else failures + 1
            # A local file does not get better. The rest of a remote shard is lost after the last attempt, and counted.
            if is_local(url) or failures > RETRIES:
                break
            self.events.append(BadSample('retried_shard', located.detail).record('', shard_name(url)))
            _wait(url, failures, located)
        self.failure = located
        if done or is_local(url):
            return
        self._lost.append(f'{shard_name(url)}: {located.detail}')
        if len(self._lost) >= MOST_LOST_SHARDS:
            raise RuntimeError(
                f'{len(self._lost)} shards in a row gave no sample, after {RETRIES} more attempts at each: '
                f'{"; ".join(self._lost)}. Training stops, because it would continue without the data. When the store '
                'answers again, resume with --resume.'
            )


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


def open_shard(url: str) -> Iterator[Sample[bytes]]:
    """Yield every sample of a shard. Local files are read by our own walk, because ``tarfile`` hides damage."""
    if is_indexable(url):
        with open(url, 'rb', buffering=0) as file:
            for entry in walk_samples(file):
                files = {name: read_span(file, span) for name, span in entry.files.items()}
                yield Sample(entry.key, files, entry.problem)
    else:
        yield from stream_samples(url)


def stream_samples(url: str) -> Iterator[Sample[bytes]]:
    """Yield every sample of a shard from a command or a url.

    If the caller stops before the end, the command is killed.

    Args:
        url: Address for :func:`webdataset.gopen`, ``pipe:...`` for a command.

    Raises:
        OSError: If the command fails.
        tarfile.TarError: If its output is no tar file.
    """
    stream = gopen(url)
    command = isinstance(stream, Pipe)
    # Otherwise a read raises as soon as the command has failed, and timing decides how much of its output is lost.
    set_options(stream, ignore_errors=True)
    grouper: SampleGrouper[bytes] = SampleGrouper()
    watched = _Watched(stream)
    shard = [{'url': url, 'stream': watched}]
    try:
        for member in tar_file_expander(shard, select_files=lambda name: not is_side_file(name), eof_value=None):
            sample = grouper.add(member['fname'], member['data'])
            if sample is not None:
                yield sample
        # A connection that breaks between two files looks like the end of the tar file. Only the exit status of the
        # command tells them apart, and the last sample may lack files.
        watched.read_rest()
        stream.close()
    except tarfile.TarError as problem:
        status = stream.proc.poll() if command else None
        if status:
            raise OSError(f'exit status {status} of the command, {describe(problem)}') from problem
        raise
    finally:
        # Otherwise Python would wait for the end of the command, for ever if it is stuck.
        if command and stream.status is None:
            stream.proc.kill()
    if command and stream.status not in stream.ignore_status:
        raise OSError(f'exit status {stream.status} of the command')
    watched.check_end()
    if grouper.held is not None:
        yield grouper.held


class _Watched:
    """A stream that remembers its first and last bytes, because ``tarfile`` takes any end for that of the archive."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._head = self._tail = b''
        self._joined = False

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        if len(self._head) < _BLOCK:
            self._head += data[: _BLOCK - len(self._head)]
        self._tail = data[-_BLOCK:] if len(data) >= _BLOCK else (self._tail + data)[-_BLOCK:]
        return data

    def read_rest(self) -> None:
        """Read the bytes after the end of the archive."""
        while data := self.read(1 << 20):
            self._joined |= any(data)

    def check_end(self) -> None:
        """Raise ``tarfile.ReadError`` if the archive does not end with zeros or another one follows.

        Compressed archives have their own checks.
        """
        if self._head[257:262] != b'ustar':
            return
        if any(self._tail):
            raise tarfile.ReadError(f'cut off between two files: {NO_END}')
        if self._joined:
            raise tarfile.ReadError(f'files follow the end of the archive: {JOINED}')
