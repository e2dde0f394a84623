"""Images as a person sees them, from files or from memory."""

from os import PathLike
from pathlib import Path

from PIL import Image

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.transforms.decode import MOST_PIXELS, decode_image, on_white, upright

ImageLike = str | PathLike | Image.Image
# Brightness without a fixed range, which Pillow would clip at 255.
_DEEP = ('I', 'F')


def open_image(image: ImageLike) -> Image.Image:
    """Opens an image.

    Args:
        image: Path or PIL image.

    Returns:
        RGB, turned upright as its camera says, transparent pixels on white.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no image, damaged, of another format than JPEG, PNG, WebP, GIF and BMP, or of a kind
            that does not convert to RGB without loss of meaning (16 bit, float, CMYK, animated), see
            :func:`~mmmaskclip.datasets.transforms.decode.decode_image`.
    """
    if isinstance(image, Image.Image):
        if image.mode.split(';')[0] in _DEEP:
            raise ValueError(f'an image of mode {image.mode} has no fixed range: scale it to 8 bit')
        return upright(on_white(image))
    path = Path(image)
    if not path.is_file():
        raise FileNotFoundError(f'there is no image {path}')
    try:
        return decode_image(path.read_bytes(), MOST_PIXELS)
    except BadSample as error:
        raise ValueError(f'{path}: {error}') from error
