"""Decodes the bytes of an image, refusing what would only harm training."""

import io
import warnings

from PIL import Image, UnidentifiedImageError

from mmmaskclip.datasets.sampling import BadSample

# Modes that convert to RGB without loss of meaning. CMYK needs a colour profile; 16-bit and float images are depth maps
# or medical scans, and Pillow clips rather than scales them.
_MODES = ('RGB', 'L', 'P', 'RGBA', 'LA', 'PA', '1')
DEFAULT_MAX_PIXELS = 50_000_000


def decode_image(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Decode an image file to RGB.

    Args:
        data: The content of the file.
        max_pixels: An image whose header claims more is refused before anything is decoded (a decompression bomb).
            Pillow itself refuses more than 178 million.

    Returns:
        The image, mode RGB.

    Raises:
        BadSample: ``empty_file``, ``not_an_image``, ``too_large``, ``animated``, ``unsupported_mode`` (CMYK, 16 bit,
            float) or ``truncated_image``.
    """
    if not data:
        raise BadSample('empty_file', 'the image has no bytes')
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise BadSample('too_large', f'{width}x{height} has more than max_pixels={max_pixels}')
    # MPO: a photograph as phones write it, with a preview or depth map after it.
    if getattr(image, 'is_animated', False) and image.format != 'MPO':
        raise BadSample('animated', f'{image.format} with {getattr(image, "n_frames", 2)} frames')
    if image.mode not in _MODES or _is_16_bit_png(image, data):
        depth = ', 16 bit' if _is_16_bit_png(image, data) else ''
        raise BadSample('unsupported_mode', f'{image.format} of mode {image.mode}{depth}')
    try:
        with warnings.catch_warnings():
            # Pillow advises to keep the transparency of palettes; a vision tower has three channels.
            warnings.simplefilter('ignore')
            return image.convert('RGB')
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, IndexError, ...
        raise BadSample('truncated_image', f'{image.format} {width}x{height}: {error}') from error


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # The check against max_pixels follows; Pillow's own warning would appear once per image and worker.
            warnings.simplefilter('ignore')
            return Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise BadSample('not_an_image', f'{len(data)} bytes that begin with {data[:32]!r}') from error
    except Image.DecompressionBombError as error:
        raise BadSample('too_large', str(error)) from error
    except MemoryError:
        raise
    except Exception as error:
        raise BadSample('truncated_image', f'{len(data)} bytes: {error}') from error


def _is_16_bit_png(image: Image.Image, data: bytes) -> bool:
    # Pillow opens 16-bit colour PNGs as 8-bit RGB without a word; the depth is in the header chunk.
    return image.format == 'PNG' and len(data) > 24 and data[24] == 16
