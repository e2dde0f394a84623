"""Writes shuffled tar shards of image-text pairs, in several processes."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.training.auto import FoundData
from mmmaskclip.datasets.training.pair_sources import Pair, Source, open_source
from mmmaskclip.datasets.transforms.decode import MOST_PIXELS, decode_image
from mmmaskclip.datasets.transforms.tokenize import is_blank

_ENDINGS = {b'\xff\xd8': 'jpg', b'\x89P': 'png', b'RI': 'webp'}


def write_shard(path: Path, pairs: Iterator[Pair]) -> tuple[int, list[dict[str, Any]]]:
    """Write one shard (atomic write).

    Args:
        path: The file. The keys of its samples begin with its name, without ``.tar``.
        pairs: The pairs to write.

    Returns:
        Number of samples, and records of the pairs that were left out.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    written, bad = 0, []
    with tarfile.open(temporary, 'w') as tar:
        for pair in pairs:
            try:
                files = _files(pair)
            except BadSample as problem:
                bad.append(problem.record(pair.name, path.name))
                continue
            for ending, data in files.items():
                member = tarfile.TarInfo(f'{path.stem}{written:06d}.{ending}')
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            written += 1
    os.replace(temporary, path)
    return written, bad


def _files(pair: Pair) -> dict[str, bytes]:
    if pair.problem is not None:
        raise pair.problem
    captions = [' '.join(text.split()) for text in pair.captions if isinstance(text, str) and not is_blank(text)]
    if not captions:
        raise BadSample('empty_caption', f'{pair.captions!r}')
    image = decode_image(pair.image, MOST_PIXELS)
    ending, data = _ENDINGS.get(pair.image[:2]), pair.image
    if ending is None:  # GIF and BMP
        file = io.BytesIO()
        image.save(file, 'PNG')
        ending, data = 'png', file.getvalue()
    content = {'caption': captions[0], 'captions': captions, 'name': pair.name}
    return {ending: data, 'txt': captions[0].encode(), 'json': json.dumps(content).encode()}


class Job(NamedTuple):
    """The task of all processes: shards of one source in one order."""

    path: str
    found: FoundData
    size: int
    seed: int
    out: str

    def plan(self) -> tuple[Source, list[np.ndarray]]:
        """Open the source; return it and its plan."""
        source = open_source(self.path, self.found)
        return source, source.plan(self.size, self.seed)


class Written(NamedTuple):
    """A written part of the plan: its number, the samples of each of its shards, records of pairs left out."""

    number: int
    samples: dict[str, int]
    bad: list[dict[str, Any]]


def write_shards(job: Job, numbers: Sequence[int], workers: int) -> Iterator[Written]:
    """Write parts of the plan. A ``.NUMBER.json`` beside its shards marks a finished part, which a later run keeps.

    Args:
        job: The task.
        numbers: Numbers of the parts of its plan.
        workers: Processes. The bytes do not depend on their number.

    Yields:
        Each part once it is finished, in any order.
    """
    if workers < 2 or len(numbers) < 2:
        _start(job)
        yield from map(_write, numbers)
        return
    # Not a fork: this process may have threads (a notebook, a progress bar), whose locks a fork would hold for ever.
    context = multiprocessing.get_context('forkserver')
    with ProcessPoolExecutor(min(workers, len(numbers)), context, _start, (job,)) as pool:
        for future in as_completed(pool.submit(_write, number) for number in numbers):
            yield future.result()


_this: dict[str, Any] = {}


def _start(job: Job) -> None:
    source, plan = job.plan()
    _this.update(job=job, source=source, plan=plan)


def _write(number: int) -> Written:
    job = _this['job']
    pairs = _this['source'].read(_this['plan'][number])
    samples, bad = {}, []
    for part in count():
        first = next(pairs, None)
        if first is None:
            break
        # Only a file of a stream, whose pairs are not counted, fills more than one shard.
        name = f'{number:05d}-{part:03d}.tar' if part else f'{number:05d}.tar'
        samples[name], left_out = write_shard(Path(job.out, name), chain([first], islice(pairs, job.size - 1)))
        bad += left_out
    notes = Path(job.out, f'.{number:05d}.json')
    notes.write_text(json.dumps({'samples': samples, 'bad': bad}), encoding='utf-8')
    return Written(number, samples, bad)
