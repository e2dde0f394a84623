"""Arguments of the picture tools: any number of checkpoints, drawn side by side in one picture."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from mmmaskclip.apis import ImageTextInferencer
from mmmaskclip.apis.images import open_image
from mmmaskclip.models.backbones.read_outs import READ_OUTS
from mmmaskclip.visualization.picture_grid import PANEL_WIDTH


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that both picture tools share: images, models, and how the models see the images."""
    parser.add_argument('images', nargs='+', help='paths of images')
    parser.add_argument('--config', nargs='+', required=True, help='one for all checkpoints, or one for each')
    parser.add_argument('--checkpoints', nargs='+', required=True, help='one or more; "none" is the untrained model')
    parser.add_argument('--names', nargs='+', help='what to call the models [config and checkpoint]')
    parser.add_argument('--size', type=int, help="shorter side at which a model sees an image [the model's own]")
    parser.add_argument(
        '--mode',
        choices=('interpolate', 'sliding'),
        default='interpolate',
        help="the image in one piece, positions interpolated, or in windows of the model's own size [interpolate]",
    )
    parser.add_argument(
        '--read-out',
        choices=READ_OUTS,
        default='patch',
        help='how one vector per patch is read from the image tower, see docs/evaluation.md [patch]',
    )
    parser.add_argument(
        '--panel-width',
        type=int,
        default=PANEL_WIDTH,
        help=f'width of each image in the picture, pixels [{PANEL_WIDTH}]',
    )
    parser.add_argument('--crop', action='store_true', help='the middle square only: what the global embedding sees')


def check_model_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the program with a message if an argument would cause an error only after the models ran.

    It checks that the numbers of configs, checkpoints and names fit, that the files exist, that the images open, that
    the size is positive, and that the ending of ``args.out`` names a format.
    """
    count = len(args.checkpoints)
    if len(args.config) not in (1, count):
        parser.error(f'{len(args.config)} configs for {count} checkpoints: give one, or one for each')
    if args.names and len(args.names) != count:
        parser.error(f'{len(args.names)} names for {count} checkpoints: give one for each')
    for path in (*args.config, *(path for path in args.checkpoints if path != 'none')):
        if not Path(path).exists():
            parser.error(f'there is no file {path}')
    if args.size is not None and args.size < 1:
        parser.error(f'--size {args.size}: give the shorter side in pixels, at least 1')
    if args.panel_width < 20:
        parser.error(f'--panel-width {args.panel_width}: give at least 20 pixels')
    formats = FigureCanvasAgg.get_supported_filetypes()
    if Path(args.out).suffix.removeprefix('.').lower() not in formats:
        parser.error(f'--out {args.out}: its ending names no format; choose one of {", ".join(sorted(formats))}')
    try:
        args.pictures = open_images(args.images, args.crop)
    except (OSError, ValueError) as error:
        parser.error(str(error))


def check_texts(parser: argparse.ArgumentParser, option: str, texts: Sequence[str] | None) -> None:
    """End the program with a message if a text is empty: an empty text has an embedding, but no meaning."""
    if any(not text.strip() for text in texts or ()):
        parser.error(f'{option}: a text is empty')


def load_models(args: argparse.Namespace) -> Iterator[tuple[str, ImageTextInferencer]]:
    """Yield one model after the other, so that only one is in memory.

    Args:
        args: The parsed arguments of :func:`add_model_arguments`.

    Yields:
        The model's name and the model. The name is empty if there is only one model and the user named none.
    """
    configs = args.config * (len(args.checkpoints) if len(args.config) == 1 else 1)
    names = args.names or [
        f'{Path(config).parent.name}/{Path(config).stem} {Path(checkpoint).stem}' if len(args.checkpoints) > 1 else ''
        for config, checkpoint in zip(configs, args.checkpoints, strict=True)
    ]
    for name, config, checkpoint in zip(names, configs, args.checkpoints, strict=True):
        yield name, ImageTextInferencer(config, None if checkpoint == 'none' else checkpoint)


def open_images(paths: Sequence[str], crop: bool = False) -> list[Image.Image]:
    """Open images upright, as a person sees them.

    Args:
        paths: Their paths.
        crop: Whether to cut out the middle square. Defaults to False.

    Returns:
        RGB images, rotated as their EXIF orientation says.

    Raises:
        FileNotFoundError, ValueError: See :func:`mmmaskclip.apis.images.open_image`.
    """
    images = [open_image(path) for path in paths]
    return [TF.center_crop(image, min(image.size)) for image in images] if crop else images
