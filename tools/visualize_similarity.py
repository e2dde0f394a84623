"""Draws where words are in images: one row per image and checkpoint, one column per word and caption.

    python tools/visualize_similarity.py a.jpg b.jpg --words dog grass \\
        --captions 'a dog on the grass' 'two dogs play in a meadow' \\
        --config configs/clip/vitt16_flickr8k.py configs/maskclip/vitt16_flickr8k_v1.py \\
        --checkpoints clip.pth maskclip.pth --names CLIP MaskCLIP --out maps.png

A model sees an image at its own size, or at any --size: in one piece, or with --mode sliding in windows.
"""

import argparse

import numpy as np

from mmmaskclip.cli.compared_models import (
    add_model_arguments,
    check_model_arguments,
    check_texts,
    load_models,
)
from mmmaskclip.visualization import SimilarityRow, draw_similarity_maps


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser)
    parser.add_argument('--words', nargs='+', required=True, help='a heat map is drawn for each')
    parser.add_argument('--captions', nargs='+', help='one more column, for a sentence: one for all images or for each')
    parser.add_argument(
        '--scale',
        choices=('row', 'map'),
        default='row',
        help='colours over the range of a row, to compare words, or of each map, to see where each fits best [row]',
    )
    parser.add_argument('--out', default='similarity.png', help='picture to write [similarity.png]')
    args = parser.parse_args(argv)
    check_texts(parser, '--words', args.words)
    check_texts(parser, '--captions', args.captions)
    if args.captions and len(args.captions) not in (1, len(args.images)):
        parser.error(f'{len(args.captions)} captions for {len(args.images)} images: give one, or one for each')
    check_model_arguments(parser, args)
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    captions = args.captions or [None]
    captions = captions * (len(args.pictures) if len(captions) == 1 else 1)
    rows: list[tuple[int, SimilarityRow]] = []
    for name, model in load_models(args):
        for index, (image, caption) in enumerate(zip(args.pictures, captions, strict=True)):
            texts = [*args.words, *([caption] if caption else [])]
            maps = model.similarity_maps(image, texts, args.size, args.mode, args.read_out).cpu().numpy()
            rows.append((index, SimilarityRow(name, np.asarray(image), maps, caption)))
    # The models' rows of one image stand together.
    ordered = [row for _, row in sorted(rows, key=lambda row: row[0])]
    draw_similarity_maps(ordered, args.words, args.out, args.scale, args.panel_width)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
