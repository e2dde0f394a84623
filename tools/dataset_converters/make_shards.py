"""Turn image-text pairs of any kind into shuffled tar shards, in parallel; an interrupted run goes on.

python tools/dataset_converters/make_shards.py data/photos data/photos_shards
python tools/dataset_converters/make_shards.py pairs.csv out --image-key image --caption-key text --workers 4
python tools/dataset_converters/make_shards.py hf://datasets/OWNER/NAME out --config en de --split train

PATH is what `train_dataloader.dataset = dict(type='auto', path=...)` takes, parquet files that hold the images, and
with --config or --split any data set that Hugging Face's `datasets` streams. OUT gets 00000.tar ... with KEY.jpg (or
.png, .webp; the file as it is), KEY.txt (the first caption) and KEY.json (all of them, and the original name);
counts.json, for `num_samples` where the shards are read from a store; and bad_samples.jsonl with what was left out.
Every sample has its place by --seed alone: a shard that is there is not written again. Of a stream each file of the
data set becomes shards of its own, 00000.tar, 00000-001.tar, ...
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from mmmaskclip.datasets.training.auto import FoundData, find_data
from mmmaskclip.datasets.training.hugging_face_streams import find_stream
from mmmaskclip.datasets.training.pair_sources import open_source
from mmmaskclip.datasets.training.shard_writer import Job, write_shards


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('path', help='a folder, list, parquet file, data set on disk or pattern of shards')
    parser.add_argument('out', type=Path, help='folder to write into')
    parser.add_argument('--image-key', help='column of the image [the one that looks like it]')
    parser.add_argument('--caption-key', nargs='+', help='column of the captions, or several [what looks like it]')
    parser.add_argument('--config', nargs='+', help='configs (subsets) of a Hugging Face data set [its default]')
    parser.add_argument('--split', nargs='+', help='splits of a Hugging Face data set [the only one]')
    parser.add_argument('--data-root', help="folder that the images' paths start from [near the list]")
    parser.add_argument('--shard-size', type=int, default=10000, help='pairs per shard [10000]')
    parser.add_argument('--seed', type=int, default=0, help='of the order [0]')
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1, help='processes [%(default)s]')
    args = parser.parse_args(argv)
    if args.data_root is not None and (args.config or args.split):
        parser.error('--data-root is for lists of files, and a stream names its own: leave --data-root out')

    try:
        if args.config or args.split:
            found = find_stream(args.path, args.config, args.split, args.image_key, args.caption_key)
        else:
            found = find_data(args.path, args.image_key, args.caption_key)
        if args.data_root is not None:
            found.options['data_root'] = args.data_root
        source = open_source(args.path, found)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    parts = len(source.plan(args.shard_size, args.seed))
    print(f'{args.path}: {found.kind}, {len(source)} {source.unit}, in {parts} parts into {args.out}')
    args.out.mkdir(parents=True, exist_ok=True)
    _check_plan(args, found, len(source))
    job = Job(args.path, found, args.shard_size, args.seed, str(args.out))
    done = [number for number in range(parts) if (args.out / f'.{number:05d}.json').exists()]
    todo = sorted({*range(parts)} - {*done})
    if done:
        print(f'{len(done)} parts are there already')
    _run(job, todo, args.workers)
    _finish(args.out, parts)


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


def _run(job: Job, todo: Sequence[int], workers: int) -> None:
    begin, samples = time.monotonic(), 0
    for count, part in enumerate(write_shards(job, todo, workers), 1):
        written = sum(part.samples.values())
        samples += written
        passed = time.monotonic() - begin
        print(
            f'[{count}/{len(todo)}] {", ".join(part.samples)}: {written} samples, {len(part.bad)} left out; '
            f'{samples / max(passed, 1e-9):.0f} samples/s, {passed / count * (len(todo) - count):.0f} s left',
            flush=True,
        )


def _finish(out: Path, parts: int) -> None:
    notes = [json.loads((out / f'.{number:05d}.json').read_text(encoding='utf-8')) for number in range(parts)]
    counts = {name: samples for note in notes for name, samples in note['samples'].items()}
    bad = [record for note in notes for record in note['bad']]
    (out / 'counts.json').write_text(json.dumps(counts, indent=0))
    (out / 'bad_samples.jsonl').write_text(''.join(f'{json.dumps(record)}\n' for record in bad), encoding='utf-8')
    text = f'{sum(counts.values())} samples in {len(counts)} shards'
    print(text + (f'; {len(bad)} are left out, see {out / "bad_samples.jsonl"}' if bad else ''))


if __name__ == '__main__':
    main()
