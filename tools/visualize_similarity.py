"""Draws where words are in images: one row per image and checkpoint, one column per word.

    python tools/visualize_similarity.py a.jpg b.jpg --words dog grass --caption 'a dog on the grass' \\
        --config configs/maskclip/vitt16_flickr8k.py \\
        --checkpoints work_dirs/maskclip/vitt16_flickr8k/epoch_10.pth --out maps.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mmmaskclip.apis import ImageTextInferencer
from mmmaskclip.visualization import SimilarityRow, draw_similarity_maps


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', nargs='+', help='paths of images')
    parser.add_argument('--words', nargs='+', required=True, help='a heat map is drawn for each')
    parser.add_argument('--caption', help='one more column, for a whole sentence')
    parser.add_argument('--config', nargs='+', required=True, help='one for all checkpoints, or one for each')
    parser.add_argument('--checkpoints', nargs='+', required=True, help='one or more; "none" is the untrained model')
    parser.add_argument('--size', type=int, help="shorter side at which the model sees an image [the model's own]")
    parser.add_argument('--out', default='similarity.png', help='picture to write (default similarity.png)')
    args = parser.parse_args(argv)
    if len(args.config) not in (1, len(args.checkpoints)):
        parser.error(f'{len(args.config)} configs for {len(args.checkpoints)} checkpoints: give one, or one for each')
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    columns = [*args.words, *([args.caption] if args.caption else [])]
    rows: list[tuple[int, SimilarityRow]] = []
    configs = args.config * (len(args.checkpoints) if len(args.config) == 1 else 1)
    for config, checkpoint in zip(configs, args.checkpoints, strict=True):
        model = ImageTextInferencer(config, None if checkpoint == 'none' else checkpoint)
        # A title where it tells something: with one model all rows would have the same.
        title = f'{Path(config).parent.name}/{Path(config).stem} {Path(checkpoint).stem}'
        title = title if len(args.checkpoints) > 1 else ''
        for index, path in enumerate(args.images):
            image = ImageOps.exif_transpose(Image.open(path)).convert('RGB')
            maps = model.similarity_maps(image, columns, args.size).cpu().numpy()
            rows.append((index, SimilarityRow(title, np.asarray(image), maps)))
    # The models' rows of one image stand together.
    draw_similarity_maps([row for _, row in sorted(rows, key=lambda row: row[0])], columns, args.out)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
