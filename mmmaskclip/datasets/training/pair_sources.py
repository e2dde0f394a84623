"""Pairs of any source by number, and the order in which they are written to shards."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from mmmaskclip.datasets.sampling import BadSample, stable_hash
from mmmaskclip.datasets.training.auto import FoundData
from mmmaskclip.datasets.training.captions import CaptionReader
from mmmaskclip.datasets.training.folders_and_tables import image_bytes, open_parquet, parquet_files, row_captions
from mmmaskclip.datasets.training.hugging_face_streams import open_stream
from mmmaskclip.datasets.training.image_text_pairs import ImageTextPairs
from mmmaskclip.datasets.training.image_text_shards import IMAGE_KEYS
from mmmaskclip.datasets.training.shard_urls import expand_urls, is_indexable, shard_name
from mmmaskclip.datasets.training.tar_files import Sample, read_span, walk_samples

T = TypeVar('T')


class Pair(NamedTuple):
    """An image file and its captions, or their fault."""

    name: str
    image: bytes
    captions: list[str]
    problem: BadSample | None = None


class Source(Protocol):
    """Pairs that can be read in any order, by number."""

    unit: str
    """Name of the numbered things, for messages."""

    def __len__(self) -> int:
        """Number of pairs, or files of a stream."""

    def plan(self, size: int, seed: int) -> list[np.ndarray]:
        """Return the parts to write, each an array of numbers in order. A part is one shard of at most ``size`` pairs,
        or one file of a stream, which becomes as many shards as it fills."""

    def read(self, numbers: Sequence[int]) -> Iterator[Pair]:
        """Yield the pairs with these numbers."""


class Listed:
    """Pairs whose images are files, or rows of a Hugging Face data set."""

    unit = 'images'

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
    """Pairs in local tar shards, to be shuffled again."""

    unit = 'images'

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
    """Pairs in parquet files, images included. Parquet is read by row groups. So the groups are shuffled, and then the
    rows within one shard."""

    unit = 'images'

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


class Streams:
    """Pairs of a Hugging Face data set that ``datasets`` streams, each file from the beginning to the end.

    The files are shuffled, and the rows of each file in a buffer of 1,000. We shuffle here, because the shuffled
    streams of ``datasets`` sleep for seconds at the end of each file.
    """

    unit = 'files of a stream'

    def __init__(self, options: dict[str, Any]) -> None:
        self._image_key, key = options['image_key'], options['caption_key']
        self._keys = [key] if isinstance(key, str) else list(key)
        self._seed = 0
        self._files = []
        for config, split in options['parts']:
            stream = open_stream(options['path'], config, split)
            where = '/'.join(name for name in (config, split) if name)
            self._files += [(stream, number, f'{where}/{number:05d}') for number in range(stream.num_shards)]

    def __len__(self) -> int:
        return len(self._files)

    def plan(self, size: int, seed: int) -> list[np.ndarray]:
        self._seed = seed
        return list(np.random.default_rng(seed).permutation(len(self))[:, None])

    def read(self, numbers: Sequence[int]) -> Iterator[Pair]:
        for number in numbers:
            stream, file, where = self._files[number]
            rows = enumerate(stream.shard(num_shards=stream.num_shards, index=file))
            for count, row in _shuffled(rows, stable_hash(self._seed, where)):
                name = f'{where}/{count}'
                try:
                    yield Pair(name, _streamed_image(row[self._image_key]), row_captions(row, self._keys))
                except BadSample as bad:
                    yield Pair(name, b'', [], bad)


def _shuffled(rows: Iterable[T], seed: int, size: int = 1000) -> Iterator[T]:
    draw = random.Random(seed)
    buffer: list[T] = []
    for row in rows:
        if len(buffer) < size:
            buffer.append(row)
            continue
        place = draw.randrange(size)
        yield buffer[place]
        buffer[place] = row
    draw.shuffle(buffer)
    yield from buffer


def _streamed_image(value: Any) -> bytes:
    path = value.get('path') if isinstance(value, dict) and not value.get('bytes') else None
    if not path or '://' not in path:
        return image_bytes(value, '')
    import fsspec

    # For a data set of image files, or of zips of them, a row holds the address, which may point into an archive.
    try:
        with fsspec.open(path, 'rb') as file:
            return file.read()
    except OSError as error:
        raise BadSample('missing_image', f'{path}: {error}') from error


def open_source(path: str, found: FoundData) -> Source:
    """Open the data that :func:`~.auto.find_data` found at a path."""
    if found.kind == 'shards':
        return Tars(found.options)
    if found.kind == 'parquet':
        return Parquet(path, found.options)
    if found.kind == 'stream':
        return Streams(found.options)
    return Listed(found.options)
