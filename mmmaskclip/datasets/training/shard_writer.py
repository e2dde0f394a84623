"""Shuffled tar shards from image-text pairs of any kind, by several processes."""

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
    """Writes one shard, under another name until it is whole.

    Args:
        path: The file. Its name without ``.tar`` begins the keys of its samples.
        pairs: What goes into it.

    Returns:
        How many samples it has, and records of those that were left out.
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
    """What all processes write: shards of one source in one order."""

    path: str
    found: FoundData
    size: int
    seed: int
    out: str

    def plan(self) -> tuple[Source, list[np.ndarray]]:
        """Opens the source; gives it and its plan."""
        source = open_source(self.path, self.found)
        return source, source.plan(self.size, self.seed)


class Written(NamedTuple):
    """What one part of the plan has become: its number, the samples of each of its shards, and what was left out."""

    number: int
    samples: dict[str, int]
    bad: list[dict[str, Any]]


def write_shards(job: Job, numbers: Sequence[int], workers: int) -> Iterator[Written]:
    """Writes parts of the plan, each with ``.NUMBER.json`` beside its shards: an interrupted run keeps what is there.

    Args:
        job: What to write.
        numbers: Which parts of its plan.
        workers: Processes. The bytes do not depend on their number.

    Yields:
        Each part once it is there, in any order.
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
        # Only a file of a stream, whose pairs nobody has counted, fills more than one.
        name = f'{number:05d}-{part:03d}.tar' if part else f'{number:05d}.tar'
        samples[name], left_out = write_shard(Path(job.out, name), chain([first], islice(pairs, job.size - 1)))
        bad += left_out
    notes = Path(job.out, f'.{number:05d}.json')
    notes.write_text(json.dumps({'samples': samples, 'bad': bad}), encoding='utf-8')
    return Written(number, samples, bad)
