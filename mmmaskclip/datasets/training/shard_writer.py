"""Shuffled tar shards from image-text pairs of any kind, by several processes."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.training.auto import FoundData
from mmmaskclip.datasets.training.captions import CaptionReader
from mmmaskclip.datasets.training.folders_and_tables import image_bytes, open_parquet, parquet_files, row_captions
from mmmaskclip.datasets.training.image_text_pairs import ImageTextPairs
from mmmaskclip.datasets.training.image_text_shards import IMAGE_KEYS
from mmmaskclip.datasets.training.shard_urls import expand_urls, is_indexable, shard_name
from mmmaskclip.datasets.training.tar_files import Sample, read_span, walk_samples
from mmmaskclip.datasets.transforms.decode import MOST_PIXELS, decode_image
from mmmaskclip.datasets.transforms.tokenize import is_blank

_ENDINGS = {b'\xff\xd8': 'jpg', b'\x89P': 'png', b'RI': 'webp'}


class Pair(NamedTuple):
    """An image file and its captions, or what is wrong with them."""

    name: str
    image: bytes
    captions: list[str]
    problem: BadSample | None = None


class Source(Protocol):
    """Pairs that can be read in any order, by number."""

    def __len__(self) -> int:
        """Number of pairs."""

    def plan(self, size: int, seed: int) -> list[np.ndarray]:
        """Gives for each shard the numbers of its pairs, in their order."""

    def read(self, numbers: Sequence[int]) -> Iterator[Pair]:
        """Reads pairs."""


class Listed:
    """Pairs whose images are files, or rows of a Hugging Face data set."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._pairs = ImageTextPairs(views={'image': []}, **options)

    def __len__(self) -> int:
        return len(self._pairs)

    def plan(self, size: int, seed: int) -> list[np.ndarray]:
        order = np.random.default_rng(seed).permutation(len(self))
        return [order[i : i + size] for i in range(0, len(order), size)]

    def read(self, numbers: Sequence[int]) -> Iterator[Pair]:
        for number in numbers:
            try:
                yield Pair(*self._pairs.raw(int(number)))
            except BadSample as bad:
                yield Pair(str(number), b'', [], bad)


class Tars:
    """Pairs in local tar shards, which are shuffled anew."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._captions = CaptionReader(options['caption_key'])
        self._where: list[tuple[str, Sample]] = []
        for shard in expand_urls(options['urls']):
            if not is_indexable(shard):
                raise ValueError(f'{shard} is no local tar file: download it first')
            with open(shard, 'rb', buffering=0) as file:
                self._where += [(shard, sample) for sample in walk_samples(file)]

    def __len__(self) -> int:
        return len(self._where)

    plan = Listed.plan

    def read(self, numbers: Sequence[int]) -> Iterator[Pair]:
        for number in numbers:
            shard, sample = self._where[number]
            name = f'{shard_name(shard)}/{sample.key}'
            try:
                with open(shard, 'rb', buffering=0) as file:
                    files = {key: read_span(file, span) for key, span in sample.files.items()}
                if sample.problem:
                    raise sample.problem
                image = next((files[key] for key in IMAGE_KEYS if key in files), b'')
                yield Pair(name, image, self._captions(files))
            except BadSample as bad:
                yield Pair(name, b'', [], bad)


class Parquet:
    """Pairs in parquet files, images included. They are read by row groups, so these are what is shuffled, and the rows
    of those that fall into one shard."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self._image_key, key = options['image_key'], options['caption_key']
        self._keys = [key] if isinstance(key, str) else list(key)
        self._root = options['data_root']
        self._groups: list[tuple[str, int]] = []
        sizes = []
        for file in parquet_files(path):
            metadata = open_parquet(file).metadata
            for group in range(metadata.num_row_groups):
                self._groups.append((file, group))
                sizes.append(metadata.row_group(group).num_rows)
        self._ends = np.cumsum(sizes)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def plan(self, size: int, seed: int) -> list[np.ndarray]:
        generator = np.random.default_rng(seed)
        begins = np.concatenate([[0], self._ends[:-1]])
        groups = generator.permutation(len(self._groups))
        rows = np.concatenate([np.arange(begins[group], self._ends[group]) for group in groups])
        return [generator.permutation(rows[i : i + size]) for i in range(0, len(rows), size)]

    def read(self, numbers: Sequence[int]) -> Iterator[Pair]:
        groups = np.searchsorted(self._ends, numbers, side='right')
        tables = {}
        for group in np.unique(groups).tolist():
            file, number = self._groups[group]
            columns = [self._image_key, *self._keys]
            tables[group] = open_parquet(file).read_row_group(number, columns=columns, use_threads=False)
        for number, group in zip(numbers, groups.tolist(), strict=True):
            row = int(number) - (int(self._ends[group - 1]) if group else 0)
            values = tables[group].slice(row, 1).to_pylist()[0]
            name = f'{os.path.basename(self._groups[group][0])}/{number}'
            try:
                yield Pair(name, image_bytes(values[self._image_key], self._root), row_captions(values, self._keys))
            except BadSample as bad:
                yield Pair(name, b'', [], bad)


def open_source(path: str, found: FoundData) -> Source:
    """Opens what was found at a path."""
    if found.kind == 'shards':
        return Tars(found.options)
    if found.kind == 'parquet':
        return Parquet(path, found.options)
    return Listed(found.options)


def write_shard(path: Path, first: int, pairs: Iterator[Pair]) -> tuple[int, list[dict[str, Any]]]:
    """Writes one shard, under another name until it is whole.

    Args:
        path: The file.
        first: Number of the first sample, for its key.
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
                member = tarfile.TarInfo(f'{first + written:09d}.{ending}')
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
        """Opens the source; gives it and for each shard the numbers of its pairs."""
        source = open_source(self.path, self.found)
        return source, source.plan(self.size, self.seed)


class Written(NamedTuple):
    """One shard that is there: its number, its samples, and records of those that were left out."""

    number: int
    samples: int
    bad: list[dict[str, Any]]


def write_shards(job: Job, numbers: Sequence[int], workers: int) -> Iterator[Written]:
    """Writes shards, each with ``.NUMBER.json`` beside it: an interrupted run keeps what its shards have.

    Args:
        job: What to write.
        numbers: Which of its shards.
        workers: Processes. The bytes do not depend on their number.

    Yields:
        Each shard once it is there, in any order.
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
    samples, bad = write_shard(Path(job.out, f'{number:05d}.tar'), number * job.size, pairs)
    notes = Path(job.out, f'.{number:05d}.json')
    notes.write_text(json.dumps({'samples': samples, 'bad': bad}), encoding='utf-8')
    return Written(number, samples, bad)
