"""Measure the images per second of a dataset, and how one process spends its time.

Example:
    python tools/analysis_tools/bench_loader.py 'data/flickr8k/train-*.tar' --size 224 --workers 0 2
    python tools/analysis_tools/bench_loader.py 'data/flickr8k/train-*.tar' --gains --shrink-to 224
    python tools/analysis_tools/bench_loader.py 'data/flickr8k/train-*.tar' --workers 2 --against-python ENV/bin/python
    python tools/analysis_tools/bench_loader.py 'data/flickr8k/train-*.tar' --workers 2 --batch-size 1024 --first-batch

With --gains the tool switches off each optimization of the loader in turn. The variants take turns in one process. The
table gives the median CPU time per image and the ratio to the unchanged loader. CPU times stay meaningful on a busy
machine.

With --against-python OpenCLIP's loader and this package's take turns on the same shards, end to end, both with
OpenCLIP's bicubic crops. PYTHON is the interpreter of an environment with pip install 'open_clip_torch[training]'
webdataset==0.2.86, the version that OpenCLIP pins. Without workers the tool also compares the CPU time.

With --first-batch a loader whose workers deliver whole batches and one whose workers deliver parts take turns. The tool
prints the time until the first batch, CPU time of the busiest worker until then, CPU time per image of all processes
over the next batches, and the most shared memory. No other program should use /dev/shm meanwhile.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmseg.utils.tokenizer import basic_clean
from torch.utils.data import DataLoader

from mmmaskclip.datasets import ImageTextShards, collate_image_text, sampling
from mmmaskclip.datasets.training import image_text_shards
from mmmaskclip.datasets.training.batch_parts import BatchesInParts, parts_of
from mmmaskclip.datasets.transforms import decode


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('urls', nargs='+', help='shards: paths with braces or wildcards, or urls')
    parser.add_argument('--caption-key', default='txt', help="e.g. 'json:captions' (default: txt)")
    parser.add_argument('--size', type=int, default=224, help='side of the random crop (default: 224)')
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--workers', type=int, nargs='+', default=[0], help='numbers of workers to try (default: 0)')
    parser.add_argument('--seconds', type=float, default=10, help='time for each number of workers (default: 10)')
    parser.add_argument('--gains', action='store_true', help='CPU time with each optimization switched off in turn')
    parser.add_argument('--shrink-to', type=int, help='with --gains: also try shrink_to, see docs/data.md')
    parser.add_argument('--as-tensors', action='store_true', help='transform tensors, not PIL images, see docs/data.md')
    parser.add_argument('--first-batch', action='store_true', help='whole batches beside batches in parts')
    parser.add_argument('--against-python', metavar='PYTHON', help='an interpreter with OpenCLIP, to compare with')
    parser.add_argument('--num-samples', type=int, help='required if the shards are not local tar files')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    crop = {'type': 'torchvision/RandomResizedCrop', 'size': args.size, 'scale': (0.5, 1)}
    if args.against_python is not None:
        crop['interpolation'] = 'bicubic'  # OpenCLIP's, which costs more
    views, options = {'image': [crop]}, dict(num_samples=args.num_samples, as_tensors=args.as_tensors)
    dataset = ImageTextShards(args.urls, views, args.caption_key, **options)
    dataset.preflight()
    print(f'{len(dataset)} samples in {len(dataset.shards)} shards')
    if args.gains:
        for line in gains(dataset, args.batch_size, args.seconds, args.shrink_to):
            print(line)
        return
    if args.first_batch:
        for workers in args.workers:
            for line in first_batches(dataset, args.batch_size, workers):
                print(line, flush=True)
        return
    if args.against_python is not None:
        for workers in args.workers:
            for line in against_open_clip(dataset, args, workers):
                print(line)
        return
    for workers in args.workers:
        images, seconds, _ = measure(dataset, args.batch_size, workers, args.seconds)
        per_core = f', {images / seconds / max(workers, 1):.0f} per process'
        print(f'{workers} workers: {images / seconds:.0f} images/s{per_core if workers else ""}')
    for name, milliseconds in profile(dataset, args.batch_size, args.seconds).items():
        print(f'  {name:<28}{milliseconds:6.3f} ms per image')


def measure(dataset: ImageTextShards, batch_size: int, workers: int, seconds: float) -> tuple[int, float, float]:
    """Read for some time. The clock starts after the first batch, when workers have started and buffers are full.

    Returns:
        Number of images, wall time in seconds, and CPU time of this process in seconds.
    """
    loader = DataLoader(
        dataset,
        batch_size,
        num_workers=workers,
        drop_last=True,
        collate_fn=collate_image_text,
        persistent_workers=workers > 0,
    )
    batches = endless(dataset, loader, batch_size)
    next(batches)
    images, begin, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < seconds:
        images += len(next(batches)['key'])
    return images, time.perf_counter() - begin, time.process_time() - cpu


def first_batches(dataset: ImageTextShards, batch_size: int, workers: int, turns: int = 2) -> Iterator[str]:
    """Start loaders of whole batches and of batches in parts in turns. Returns a line for each."""
    for _ in range(turns):
        for in_parts in (False, True):
            loader = DataLoader(
                dataset,
                batch_size,
                num_workers=workers,
                drop_last=True,
                collate_fn=collate_image_text,
                prefetch_factor=4 if workers else None,
            )
            parts = parts_of(loader) if in_parts else 1
            dataset.begin_epoch(0, 0, batch_size // parts)
            batches: Any = BatchesInParts(loader, parts) if parts > 1 else loader
            yield f'{workers} workers, {parts} parts: {_start(iter(batches), batch_size)}'


def _start(batches: Iterator[Any], batch_size: int, more: int = 4) -> str:
    before, most, ended = shutil.disk_usage('/dev/shm').used, [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            most[0] = max(most[0], shutil.disk_usage('/dev/shm').used - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        begin = time.perf_counter()
        next(batches)
        first, busiest = time.perf_counter() - begin, max(_cpu_of_workers(), default=0.0)
        spent = time.process_time() + sum(_cpu_of_workers())
        images = sum(len(batch['key']) for batch in islice(batches, more))
        spent = time.process_time() + sum(_cpu_of_workers()) - spent
    finally:
        ended.set()
        watcher.join()
    per_image = f'{1000 * spent / images:.2f} ms of CPU time per image, ' if images else ''
    return (
        f'first batch of {batch_size} after {first:.1f} s, {busiest:.1f} s of CPU time of the busiest worker, '
        f'{per_image}{most[0] >> 20} MiB of shared memory'
    )


def _cpu_of_workers() -> list[float]:
    """Seconds of CPU time of each worker so far."""
    lines = [Path(f'/proc/{worker.pid}/stat').read_text() for worker in multiprocessing.active_children()]
    ticks = [line.rsplit(')', 1)[1].split()[11:13] for line in lines]  # user, system
    return [(int(user) + int(system)) / os.sysconf('SC_CLK_TCK') for user, system in ticks]


def against_open_clip(
    dataset: ImageTextShards, args: argparse.Namespace, workers: int, turns: int = 3
) -> Iterator[str]:
    """Time this package's loader and OpenCLIP's in turns. Returns lines with the medians and their ratio."""
    settings = dict(size=args.size, workers=workers, seconds=args.seconds)
    options = ['--batch-size', str(args.batch_size)]
    options += [word for name, value in settings.items() for word in (f'--{name}', str(value))]
    tool = Path(__file__).with_name('open_clip_loader.py')
    ours, theirs = [], []  # images/s, and milliseconds of CPU time per image
    for _ in range(turns):
        with as_in_a_worker():
            images, seconds, cpu = measure(dataset, args.batch_size, workers, args.seconds)
        ours.append((images / seconds, 1000 * cpu / images))
        result = read_with_open_clip([args.against_python, str(tool), *args.urls, *options])
        theirs.append((result['images'] / result['seconds'], 1000 * result['cpu'] / result['images']))
    for name, turns_of_one in (('ours', ours), (f'OpenCLIP, webdataset {result["webdataset"]}', theirs)):
        rates = [rate for rate, _ in turns_of_one]
        span = f'({min(rates):.0f} to {max(rates):.0f})'
        yield f'{workers} workers, {name}: {statistics.median(rates):.0f} images/s {span}'
    (rate, cpu), (their_rate, their_cpu) = (
        map(statistics.median, zip(*turns_of_one, strict=True)) for turns_of_one in (ours, theirs)
    )
    yield f'  ratio {rate / their_rate:.2f}'
    if not workers:
        yield f'  CPU time {cpu:.3f} against {their_cpu:.3f} ms per image, ratio {their_cpu / cpu:.2f}'


def read_with_open_clip(command: list[str]) -> dict[str, Any]:
    """Run open_clip_loader.py, and read its result.

    Raises:
        RuntimeError: If it fails. Gives its last line, and what the environment needs.
    """
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        last = (process.stderr.strip().splitlines() or ['no message'])[-1]
        raise RuntimeError(
            f"OpenCLIP's loader failed in {command[0]} with exit status {process.returncode}: {last}. Its environment "
            "needs pip install 'open_clip_torch[training]' webdataset==0.2.86"
        )
    return json.loads(process.stdout.splitlines()[-1])


def gains(dataset: ImageTextShards, batch_size: int, seconds: float, shrink_to: int | None) -> Iterator[str]:
    """Time the unchanged loader and the loader without each optimization, in turns."""

    def convert(image: Any) -> Any:
        image = on_white(image)
        return image.copy()  # Pillow's convert copies even if the mode stays the same

    def clean(text: str) -> str:
        return ' '.join(basic_clean(text).split())

    on_white = decode.on_white
    variants: dict[str, list[tuple[Any, str, Any]]] = {
        'as it is': [],
        'Pillow in place of simplejpeg': [(decode, 'simplejpeg', None)],
        'random states restored': [(sampling, 'get_worker_info', lambda: None)],
        'every caption through ftfy': [(sys.modules['mmmaskclip.datasets.transforms.tokenize'], '_clean', clean)],
        'a copy of each image': [(decode, 'on_white', convert)],
        'as_tensors': [(dataset, '_as_tensors', True)],
    }
    variants['none of the savings'] = [patch for patches in list(variants.values())[:-1] for patch in patches]
    if shrink_to is not None:
        variants[f'shrink_to={shrink_to}'] = [(dataset, '_shrink_to', shrink_to)]
    spent: dict[str, list[float]] = {name: [] for name in variants}
    loader = DataLoader(dataset, batch_size, drop_last=True, collate_fn=collate_image_text)
    batches = endless(dataset, loader, batch_size)
    end = time.perf_counter() + seconds
    with as_in_a_worker():
        while time.perf_counter() < end or len(spent['as it is']) < 5:
            # In random order: the first variant of a round may be slower.
            for name, patches in random.sample(list(variants.items()), len(variants)):
                with patched(patches):
                    begin = time.process_time()
                    next(batches)
                    spent[name].append((time.process_time() - begin) / batch_size * 1000)
    first = statistics.median(spent['as it is'])
    for name, times in spent.items():
        yield f'  {name:<32}{statistics.median(times):7.3f} ms per image, {statistics.median(times) / first:.2f}x'


def as_in_a_worker() -> AbstractContextManager[None]:
    """Let this process save no random states inside the block, as a worker saves none."""
    return patched([(sampling, 'get_worker_info', lambda: True)])


@contextmanager
def patched(patches: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Replace attributes inside the block."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    for owner, name, value in patches:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def endless(dataset: ImageTextShards, loader: DataLoader, batch_size: int) -> Iterator[dict[str, Any]]:
    """Read epoch after epoch."""
    epoch = 0
    while True:
        dataset.begin_epoch(epoch, 0, batch_size)
        yield from loader
        epoch += 1


def profile(dataset: ImageTextShards, batch_size: int, seconds: float) -> dict[str, float]:
    """Time the stages of one process. The rest of the time is reading, shuffling and collation."""
    spent: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - begin

    def wrap(name: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            with timed(name):
                return function(*args)

        return call

    image_text_shards.decode_image = wrap('decode', image_text_shards.decode_image)
    dataset._tokenize = wrap('tokenize', dataset._tokenize)
    dataset._views = wrap('transform', dataset._views)
    images, total, _ = measure(dataset, batch_size, 0, seconds)
    spent['read, shuffle, collate'] = total - sum(spent.values())
    return {name: 1000 * value / images for name, value in spent.items()}


if __name__ == '__main__':
    main()
