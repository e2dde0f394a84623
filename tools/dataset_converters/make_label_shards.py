"""Pack an image folder (one folder per class, as ImageNet and CIFAR-10 are unpacked) into labelled tar shards.

python tools/dataset_converters/make_label_shards.py cifar10/train data/cifar10_shards

Writes OUT/00000.tar ... with KEY.jpg (the unchanged file) and KEY.cls (the number of its class), in an order that mixes
the classes. OUT/classes.txt has the names of the classes in the order of their numbers. `ClassCaptionShards` reads
both.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import webdataset

EXTENSIONS = {'.jpg': 'jpg', '.jpeg': 'jpg', '.png': 'png', '.webp': 'webp'}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='folder with one folder of images per class')
    parser.add_argument('out', type=Path, help='folder to write into')
    parser.add_argument('--shard-size', type=int, default=10000, help='images per shard [10000]')
    parser.add_argument('--seed', type=int, default=0, help='of the order [0]')
    args = parser.parse_args(argv)

    classes = sorted(path.name for path in args.folder.iterdir() if path.is_dir())
    images = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((args.folder / name).rglob('*'))
        if path.suffix.lower() in EXTENSIONS
    ]
    if not images:
        raise SystemExit(
            f'{args.folder} has no folder with images ({", ".join(EXTENSIONS)}): its folders must be the classes.'
        )
    random.Random(args.seed).shuffle(images)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'classes.txt').write_text('\n'.join(classes) + '\n', encoding='utf-8')
    for shard, begin in enumerate(range(0, len(images), args.shard_size)):
        with webdataset.TarWriter(str(args.out / f'{shard:05d}.tar')) as writer:
            for index, (path, label) in enumerate(images[begin : begin + args.shard_size], begin):
                files = {EXTENSIONS[path.suffix.lower()]: path.read_bytes(), 'cls': str(label).encode()}
                writer.write({'__key__': f'{index:09d}', **files})
    print(f'{len(images)} images of {len(classes)} classes in {args.out}')


if __name__ == '__main__':
    main()
