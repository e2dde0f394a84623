"""Decodes images. Training, evaluation and the inferencer share one set of rules."""

import io
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

# WebP's plugin registers itself when it is imported; Pillow loads the others at the first opening.
from PIL import Image, ImageOps, UnidentifiedImageError, WebPImagePlugin  # noqa: F401
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from mmmaskclip.datasets.sampling import BadSample

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

# JPEG includes MPO, which phones write.
# Pillow would open 43 formats and judges by content, not by name: a .jpg that begins with %!PS would start Ghostscript.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP')
MASK_FORMATS = ('PNG',)
# Formats of published evaluation sets; the German traffic signs are PPM files.
_PUBLISHED_FORMATS = (*FORMATS, 'PPM')
DEFAULT_MAX_PIXELS = 50_000_000
# Pillow's own limit, roughly; for images that a person has chosen.
MOST_PIXELS = 178_000_000
# Modes that convert to RGB without loss of meaning. CMYK needs a colour profile; 16-bit and float images are depth maps
# or medical scans, and Pillow clips rather than scales them.
_MODES = ('RGB', 'L', 'P', 'RGBA', 'LA', 'PA', '1')
_ORIENTED = {'exif', 'Raw profile type exif', 'xmp', 'XML:com.adobe.xmp'}
_pillow_open = Image.open
# Signatures of refused formats, so that the error can name the format; nothing parses these files.
_OTHER_FORMATS = (
    (0, b'%!PS', 'PostScript (EPS)'),
    (0, b'\xc5\xd0\xd3\xc6', 'PostScript (EPS)'),
    (0, b'%PDF', 'PDF'),
    (0, b'II*\0', 'TIFF'),
    (0, b'MM\0*', 'TIFF'),
    (0, b'8BPS', 'Photoshop (PSD)'),
    (0, b'\0\0\0\x0cjP  ', 'JPEG 2000'),
    (0, b'\xff\x4f\xff\x51', 'JPEG 2000'),
    (0, b'\xff\x0a', 'JPEG XL'),
    (0, b'\0\0\0\x0cJXL ', 'JPEG XL'),
    (4, b'ftypavif', 'AVIF'),
    (4, b'ftyphei', 'HEIC'),
    (4, b'ftypmif1', 'HEIF'),
    (0, b'DDS ', 'DDS'),
    (0, b'SIMPLE  =', 'FITS'),
    (0, b'<svg', 'SVG'),
    (0, b'\0\0\1\0', 'ICO'),
)


def decode_image(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS, shrink_to: int | None = None) -> Image.Image:
    """Decode an image file to RGB. EXIF orientation is applied; transparent pixels become white.

    Args:
        data: The content of the file.
        max_pixels: An image whose header claims more is refused before decoding (a decompression bomb). Pillow
            refuses more than 178 million.
        shrink_to: Decode large JPEGs at a half, a quarter or an eighth of their size, as long as the shorter side
            keeps this many pixels. This changes the pixels, see docs/data.md. Default: full size.

    Returns:
        The image, mode RGB.

    Raises:
        BadSample: ``empty_file``, ``not_an_image``, ``unsupported_format`` (none of :data:`FORMATS`), ``too_large``,
            ``animated``, ``unsupported_mode`` (CMYK, 16 bit, float) or ``truncated_image``.
    """
    image = _checked(data, max_pixels)
    if shrink_to is not None:
        # libjpeg takes the smallest scale that is not below this size; draft does nothing for other formats.
        scale = shrink_to / min(image.size)
        image.draft(image.mode, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
    elif (pixels := _fast_pixels(image, data)) is not None:
        decoded = Image.frombuffer('RGB', pixels.shape[1::-1], pixels, 'raw', 'RGB', 0, 1)
        decoded.info = image.info
        image = decoded
    return _decode(image)


def decode_tensor(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS, shrink_to: int | None = None) -> Tensor:
    """Decode an image file to the pixels of :func:`decode_image`, where possible without a PIL image in between.

    Args:
        data: As for :func:`decode_image`, like the other arguments and the errors.
        max_pixels: Likewise.
        shrink_to: Likewise.

    Returns:
        uint8 (3, H, W); in memory the channels come last.
    """
    if shrink_to is None:
        image = _checked(data, max_pixels)
        if not _ORIENTED & set(image.info) and (pixels := _fast_pixels(image, data)) is not None:
            return torch.from_numpy(pixels).permute(2, 0, 1)
    return pil_to_tensor(decode_image(data, max_pixels, shrink_to))


def _checked(data: bytes, max_pixels: int) -> Image.Image:
    image = _open(data, FORMATS, max_pixels)
    unsupported = _unsupported(image, data)
    if unsupported is not None:
        raise unsupported
    return image


def _fast_pixels(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Decode a JPEG with simplejpeg, whose pixels equal Pillow's; None if Pillow must do it."""
    if simplejpeg is None or image.format != 'JPEG' or image.mode != 'RGB':
        return None
    try:
        return simplejpeg.decode_jpeg(data, 'RGB')
    except MemoryError:
        raise
    except Exception:  # a truncated file, or a colour space that simplejpeg does not know
        return None


def decode_published(data: bytes) -> tuple[Image.Image, str]:
    """Decode an image of a published evaluation set as its protocol does: converts unusual images.

    ImageNet, SUN397 and others hold CMYK photographs, animations and large scans. Leaving them out would change the
    metric. Therefore this function takes the first frame and Pillow's colour conversion, as torchvision's datasets do.

    Args:
        data: The content of the file.

    Returns:
        The image, mode RGB, upright; and why it was converted, ``'animated'`` or ``'unsupported_mode'``, empty if it
        was not.

    Raises:
        BadSample: As :func:`decode_image`, but for ``animated`` and ``unsupported_mode``.
    """
    image = _open(data, _PUBLISHED_FORMATS, MOST_PIXELS)
    unsupported = _unsupported(image, data)
    return _decode(image), '' if unsupported is None else unsupported.cause


@contextmanager
def pillow_decodes_published() -> Iterator[list[str]]:
    """Replace ``PIL.Image.open`` by :func:`decode_published` in a block, for torchvision's datasets.

    Yields:
        A list that gets the reasons for conversions.
    """
    before = Image.open
    converted: list[str] = []

    def decode(file: Any, *_: Any, **__: Any) -> Image.Image:
        try:
            is_path = isinstance(file, (str, bytes, os.PathLike))
            image, why = decode_published(Path(os.fsdecode(file)).read_bytes() if is_path else file.read())
        except BadSample as bad:
            raise BadSample(bad.cause, f'{file if is_path else getattr(file, "name", file)}: {bad.detail}') from bad
        converted.extend([why] if why else [])
        return image

    Image.open = decode  # type: ignore[assignment]
    try:
        yield converted
    finally:
        Image.open = before


def _decode(image: Image.Image) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow warns that the transparency of a palette is lost; a vision tower has three channels.
            warnings.simplefilter('ignore')
            return upright(on_white(image))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, IndexError, ...
        raise BadSample('truncated_image', f'{image.format} {image.width}x{image.height}: {error}') from error


def decode_mask(data: bytes) -> np.ndarray:
    """Decode a mask of class numbers.

    Args:
        data: The content of a PNG file of one channel of 8 bit.

    Returns:
        uint8 (H, W).

    Raises:
        BadSample: As :func:`decode_image`, or ``unsupported_mask`` if the image has colours or more bits.
    """
    image = _open(data, MASK_FORMATS, MOST_PIXELS)
    if image.mode not in ('L', 'P'):
        raise BadSample('unsupported_mask', f'a mask must be an 8-bit image of one channel, not of mode {image.mode}')
    try:
        return np.array(image, dtype=np.uint8)
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise BadSample('truncated_image', f'{image.format} {image.width}x{image.height}: {error}') from error


def _open(data: bytes, formats: tuple[str, ...], max_pixels: int) -> Image.Image:
    if not data:
        raise BadSample('empty_file', 'the image has no bytes')
    try:
        with warnings.catch_warnings():
            # max_pixels is checked below; Pillow's warning would appear once per image and worker.
            warnings.simplefilter('ignore')
            image = _pillow_open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError as error:
        start = data[:512].lstrip()[:4].lower()
        for offset, magic, name in _OTHER_FORMATS:
            if data[offset : offset + len(magic)] == magic or (name == 'SVG' and start == b'<svg'):
                raise BadSample(
                    'unsupported_format', f'{name}; read are {", ".join(formats)}: convert it to one of them'
                ) from error
        raise BadSample('not_an_image', f'{len(data)} bytes that begin with {data[:32]!r}') from error
    except Image.DecompressionBombError as error:
        raise BadSample('too_large', str(error)) from error
    except MemoryError:
        raise
    except Exception as error:
        raise BadSample('truncated_image', f'{len(data)} bytes: {error}') from error
    if image.width * image.height > max_pixels:
        raise BadSample('too_large', f'{image.width}x{image.height} has more than max_pixels={max_pixels}')
    return image


def _unsupported(image: Image.Image, data: bytes) -> BadSample | None:
    # Phones write MPO files: a photograph, then a preview or a depth map as a second frame.
    if getattr(image, 'is_animated', False) and image.format != 'MPO':
        return BadSample('animated', f'{image.format} with {getattr(image, "n_frames", 2)} frames')
    # Pillow silently opens 16-bit colour PNGs as 8-bit RGB; the bit depth is in the header chunk.
    deep = image.format == 'PNG' and len(data) > 24 and data[24] == 16
    if image.mode not in _MODES or deep:
        return BadSample('unsupported_mode', f'{image.format} of mode {image.mode}{", 16 bit" if deep else ""}')
    return None


def on_white(image: Image.Image) -> Image.Image:
    """Convert an image to RGB, transparent pixels on white, as img2dataset does."""
    if image.mode == 'RGB' and 'transparency' not in image.info:
        image.load()
        return image
    if image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
        # A transparent pixel may hide any colour: without this, two files that look alike would give different pixels.
        colours = image.convert('RGBA')
        white = Image.new('RGBA', colours.size, (255, 255, 255, 255))
        white.info = image.info
        white.alpha_composite(colours)
        image = white
    return image.convert('RGB')


def upright(image: Image.Image) -> Image.Image:
    """Apply the orientation of the EXIF or XMP data; unreadable data are ignored."""
    if not _ORIENTED & set(image.info):
        return image
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # broken EXIF data do not spoil the photograph
        return image
