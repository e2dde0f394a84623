"""Generates captioned scenes (coloured shapes) as tar shards and, on request, as ADE-style folder and COCO json.

    python tools/dataset_converters/make_scenes.py data/scenes
    python tools/dataset_converters/make_scenes.py data/scenes --num-train 20000 --folder

Writes shards/{train,val,single}-00000.tar ...; with --folder also images/, annotations/ and coco/ for segmentation and
detection. The same arguments always give the same bytes.
"""

import argparse
import time
from pathlib import Path

from mmmaskclip.datasets.scenes.writer import default_splits, write_folder, write_shards


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, help='folder to write into')
    parser.add_argument('--num-train', type=int, default=6000, help='scenes to pretrain on (default 6000)')
    parser.add_argument('--num-held-out', type=int, default=720, help='scenes in each held-out split (default 720)')
    parser.add_argument('--image-size', type=int, default=64, help='side of the images in pixels (default 64)')
    parser.add_argument('--shard-size', type=int, default=500, help='scenes per shard (default 500)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, default=1, help='processes (default 1)')
    parser.add_argument('--folder', action='store_true', help='also write images/, annotations/ and coco/')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    splits = default_splits(args.num_train, args.num_held_out)
    begin = time.perf_counter()
    shards = write_shards(args.out / 'shards', splits, args.image_size, args.seed, args.shard_size, args.workers)
    if args.folder:
        write_folder(args.out, splits, args.image_size, args.seed)
    total = sum(split.num_images for split in splits.values())
    print(f'{total} scenes in {len(shards)} shards under {args.out} ({time.perf_counter() - begin:.1f} s)')


if __name__ == '__main__':
    main()
