"""Measures how many images per second a dataset delivers, and where the time of one process goes.

Example:
    python tools/analysis_tools/bench_loader.py 'data/flickr8k/train-*.tar' --size 224 --workers 0 2
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader

from mmmaskclip.datasets import ImageTextShards, collate_image_text
from mmmaskclip.datasets.training import image_text_shards


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('urls', nargs='+', help='shards: paths with braces or wildcards, or urls')
    parser.add_argument('--caption-key', default='txt', help="e.g. 'json:captions' (default: txt)")
    parser.add_argument('--size', type=int, default=224, help='side of the random crop (default: 224)')
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--workers', type=int, nargs='+', default=[0], help='numbers of workers to try (default: 0)')
    parser.add_argument('--seconds', type=float, default=10, help='time for each number of workers (default: 10)')
    parser.add_argument('--num-samples', type=int, help='needed for shards that are not local tar files')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    crop = {'type': 'torchvision/RandomResizedCrop', 'size': args.size, 'scale': (0.5, 1)}
    dataset = ImageTextShards(args.urls, {'image': [crop]}, args.caption_key, num_samples=args.num_samples)
    dataset.preflight()
    print(f'{len(dataset)} samples in {len(dataset.shards)} shards')
    for workers in args.workers:
        images, seconds = measure(dataset, args.batch_size, workers, args.seconds)
        per_core = f', {images / seconds / max(workers, 1):.0f} per process'
        print(f'{workers} workers: {images / seconds:.0f} images/s{per_core if workers else ""}')
    for name, milliseconds in profile(dataset, args.batch_size, args.seconds).items():
        print(f'  {name:<28}{milliseconds:6.3f} ms per image')


def measure(dataset: ImageTextShards, batch_size: int, workers: int, seconds: float) -> tuple[int, float]:
    """Read for some time, after the first batch, with which workers start and buffers fill.

    Returns:
        Images and seconds.
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
    images, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        images += len(next(batches)['key'])
    return images, time.perf_counter() - begin


def endless(dataset: ImageTextShards, loader: DataLoader, batch_size: int) -> Iterator[dict[str, Any]]:
    """Read epoch after epoch."""
    epoch = 0
    while True:
        dataset.begin_epoch(epoch, 0, batch_size)
        yield from loader
        epoch += 1


def profile(dataset: ImageTextShards, batch_size: int, seconds: float) -> dict[str, float]:
    """Time the steps of one process; reading is what remains."""
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
    image_text_shards.tokenize = wrap('tokenize', image_text_shards.tokenize)
    dataset._views = wrap('transform', dataset._views)
    images, total = measure(dataset, batch_size, 0, seconds)
    spent['read, shuffle, collate'] = total - sum(spent.values())
    return {name: 1000 * value / images for name, value in spent.items()}


if __name__ == '__main__':
    main()
