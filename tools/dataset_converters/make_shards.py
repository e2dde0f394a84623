"""Turn image-text pairs of any kind into shuffled tar shards, in parallel; an interrupted run goes on.

python tools/dataset_converters/make_shards.py data/photos data/photos_shards
python tools/dataset_converters/make_shards.py pairs.csv out --image-key image --caption-key text --workers 4

PATH is what `train_dataloader.dataset = dict(type='auto', path=...)` takes, and parquet files that hold the images. OUT
gets 00000.tar ... with KEY.jpg (or .png, .webp; the file as it is), KEY.txt (the first caption) and KEY.json (all of
them, and the original name); counts.json, for `num_samples` where the shards are read from a store; and
bad_samples.jsonl with what was left out. Every sample has its place by --seed alone: a shard that is there is not
written again.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from mmmaskclip.datasets import ImageTextPairs
from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.training.auto import FoundData, find_data
from mmmaskclip.datasets.training.captions import CaptionReader
from mmmaskclip.datasets.training.folders_and_tables import arrow, image_bytes, parquet_files, row_captions
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
                raise SystemExit(f'{shard} is no local tar file: download it first.')
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
            metadata = arrow().parquet.ParquetFile(file).metadata
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
            tables[group] = arrow().parquet.ParquetFile(file).read_row_group(number, columns=columns, use_threads=False)
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


_job: dict[str, Any] = {}


def _start(job: dict[str, Any]) -> None:
    source = open_source(job['path'], job['found'])
    _job.update(job, source=source, plan=source.plan(job['size'], job['seed']))


def _write(number: int) -> tuple[int, int, list[dict[str, Any]]]:
    pairs = _job['source'].read(_job['plan'][number])
    written, bad = write_shard(Path(_job['out'], f'{number:05d}.tar'), number * _job['size'], pairs)
    # Beside the shard: a run that is interrupted keeps what its shards have.
    notes = Path(_job['out'], f'.{number:05d}.json')
    notes.write_text(json.dumps({'samples': written, 'bad': bad}), encoding='utf-8')
    return number, written, bad


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('path', help='a folder, list, parquet file, data set on disk or pattern of shards')
    parser.add_argument('out', type=Path, help='folder to write into')
    parser.add_argument('--image-key', help='column of the image [the one that looks like it]')
    parser.add_argument('--caption-key', nargs='+', help='column of the captions, or several [what looks like it]')
    parser.add_argument('--data-root', help="folder that the images' paths start from [near the list]")
    parser.add_argument('--shard-size', type=int, default=10000, help='pairs per shard [10000]')
    parser.add_argument('--seed', type=int, default=0, help='of the order [0]')
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1, help='processes [%(default)s]')
    args = parser.parse_args(argv)

    found = find_data(args.path, args.image_key, args.caption_key)
    if args.data_root is not None:
        found.options['data_root'] = args.data_root
    source = open_source(args.path, found)
    shards = len(source.plan(args.shard_size, args.seed))
    print(f'{args.path}: {found.kind}, {len(source)} images, into {shards} shards in {args.out}')
    args.out.mkdir(parents=True, exist_ok=True)
    _check_plan(args, found, len(source))
    job = dict(path=args.path, found=found, size=args.shard_size, seed=args.seed, out=str(args.out))
    done = [number for number in range(shards) if (args.out / f'.{number:05d}.json').exists()]
    todo = sorted({*range(shards)} - {*done})
    if done:
        print(f'{len(done)} shards are there already')
    _run(job, todo, args.workers)
    _finish(args.out, shards)


def _check_plan(args: argparse.Namespace, found: FoundData, total: int) -> None:
    """Refuses to mix shards of two plans in one folder."""
    plan = {'total': total, 'shard_size': args.shard_size, 'seed': args.seed, 'options': repr(found)}
    digest = hashlib.sha1(json.dumps(plan).encode()).hexdigest()
    file = args.out / '.plan.json'
    if file.exists() and json.loads(file.read_text())['digest'] != digest:
        raise SystemExit(f'{args.out} holds shards of other data or options: give another folder, or empty it.')
    if not file.exists() and any(args.out.glob('*.tar')):
        raise SystemExit(f'{args.out} holds tar files that this tool has not written: give another folder.')
    file.write_text(json.dumps({**plan, 'digest': digest}))


def _run(job: dict[str, Any], todo: Sequence[int], workers: int) -> None:
    begin, samples = time.monotonic(), 0

    def said(results: Any) -> None:
        nonlocal samples
        for number, (shard, written, bad) in enumerate(results, 1):
            samples += written
            passed = time.monotonic() - begin
            left = passed / number * (len(todo) - number)
            print(
                f'[{number}/{len(todo)}] {shard:05d}.tar: {written} samples, {len(bad)} left out; '
                f'{samples / max(passed, 1e-9):.0f} samples/s, {left:.0f} s left',
                flush=True,
            )

    if workers < 2 or len(todo) < 2:
        _start(job)
        said(map(_write, todo))
        return
    with multiprocessing.get_context('fork').Pool(min(workers, len(todo)), _start, (job,)) as pool:
        said(pool.imap_unordered(_write, todo))


def _finish(out: Path, shards: int) -> None:
    notes = [json.loads((out / f'.{number:05d}.json').read_text(encoding='utf-8')) for number in range(shards)]
    counts = {f'{number:05d}.tar': note['samples'] for number, note in enumerate(notes)}
    bad = [record for note in notes for record in note['bad']]
    (out / 'counts.json').write_text(json.dumps(counts, indent=0))
    (out / 'bad_samples.jsonl').write_text(''.join(f'{json.dumps(record)}\n' for record in bad), encoding='utf-8')
    text = f'{sum(counts.values())} samples in {shards} shards'
    print(text + (f'; {len(bad)} are left out, see {out / "bad_samples.jsonl"}' if bad else ''))


if __name__ == '__main__':
    main()
