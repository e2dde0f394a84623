"""Draws zero-shot segmentations over images, with a legend: one row per image, one column per checkpoint.

    python tools/visualize_segmentation.py a.jpg b.jpg --classes sky road car person \\
        --config configs/maskclip/vitt16_flickr8k_v1.py \\
        --checkpoints work_dirs/maskclip/vitt16_flickr8k_v1/epoch_10.pth --size 224 --mode sliding --out classes.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from mmmaskclip.cli.compared_models import (
    add_model_arguments,
    check_model_arguments,
    check_texts,
    load_models,
)
from mmmaskclip.datasets.prompts import ClassPrompts, load_prompts
from mmmaskclip.datasets.transforms.decode import MASK_FORMATS
from mmmaskclip.visualization import SegmentationRow, draw_segmentations
from mmmaskclip.visualization.segmentation_overlay import Colour


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser)
    parser.add_argument(
        '--classes',
        nargs='+',
        required=True,
        help='names, with commas between synonyms; or one prompt file that has classes; or mmseg:ADE, mmseg:VOC, ..., '
        'with the names and colours that mmseg has for this dataset',
    )
    parser.add_argument('--templates', help="prompt file with templates [the classes' own, or imagenet_7]")
    parser.add_argument('--masks', nargs='+', help='for each image a label map, drawn as a column of its own')
    parser.add_argument('--out', default='segmentation.png', help='picture to write [segmentation.png]')
    args = parser.parse_args(argv)
    check_texts(parser, '--classes', args.classes)
    if args.masks and len(args.masks) != len(args.images):
        parser.error(f'{len(args.masks)} masks for {len(args.images)} images: give one for each')
    check_model_arguments(parser, args)
    try:
        args.prompts, args.colours = read_classes(args.classes, args.templates)
        args.truth = [
            read_mask(path, image, args.crop) for path, image in zip(args.masks or (), args.pictures, strict=False)
        ]
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return args


def read_classes(given: list[str], templates: str | None) -> tuple[ClassPrompts, list[Colour] | None]:
    """The classes with their templates, and their colours where a dataset of mmseg fixes them."""
    if len(given) > 1:
        return ClassPrompts([name.split(',') for name in given], templates or 'imagenet_7'), None
    if not given[0].startswith('mmseg:'):
        return _read_prompt_file(given[0], templates), None
    # A local import: mmseg takes seconds.
    from mmseg.utils import get_classes, get_palette

    dataset = given[0].removeprefix('mmseg:').lower()
    return ClassPrompts(get_classes(dataset), templates or 'imagenet_7'), [tuple(rgb) for rgb in get_palette(dataset)]


def _read_prompt_file(name: str, templates: str | None) -> ClassPrompts:
    try:
        found = load_prompts(name)
    except FileNotFoundError as error:
        if name.endswith('.json'):
            raise
        raise ValueError(
            f'--classes {name}: one class is not enough; give two or more names, or a prompt file ({error})'
        ) from error
    return ClassPrompts(name, templates or (name if found.templates else 'imagenet_7'))


def read_mask(path: str, image: Image.Image, crop: bool) -> np.ndarray:
    """A label map (H, W), cropped as the image is."""
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no mask {path}')
    # Read as numbers, not as an image: they are classes, whatever the bit depth.
    try:
        mask = Image.open(path, formats=MASK_FORMATS)
        mask.load()
    except (OSError, SyntaxError) as error:
        raise ValueError(f'{path}: damaged ({error})') from error
    mask = TF.center_crop(mask, min(mask.size)) if crop else mask
    if mask.size != image.size or len(mask.getbands()) != 1:
        raise ValueError(f'{path}: {mask.mode} of size {mask.size} is no label map of an image of size {image.size}')
    return np.asarray(mask)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    prompts, images = args.prompts, args.pictures
    titles, columns = [], []
    if args.masks:
        titles.append('truth')
        columns.append(args.truth)
    for name, model in load_models(args):
        titles.append(name or 'prediction')
        columns.append(
            [
                model.segment(image, prompts.classes, prompts.templates, args.size, args.mode, args.read_out)
                .cpu()
                .numpy()
                for image in images
            ]
        )
    rows = [
        SegmentationRow(np.asarray(image), np.stack(labels)) for image, *labels in zip(images, *columns, strict=True)
    ]
    names = [synonyms[0] for synonyms in prompts.classes]
    draw_segmentations(rows, titles, names, args.out, args.colours, args.panel_width)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
