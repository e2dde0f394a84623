"""Opens images upright, from files or from memory, and resizes them for a model."""

from collections.abc import Iterator, Sequence, Sized
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.transforms.decode import MOST_PIXELS, decode_image, on_white, upright
from mmmaskclip.datasets.transforms.resize import ResizeMode, resize_for_model

ImageLike = str | PathLike | bytes | Image.Image | np.ndarray
# Brightness without a fixed range, which Pillow would clip at 255.
_DEEP = ('I', 'F')


def open_image(image: ImageLike) -> Image.Image:
    """Open an image.

    Args:
        image: Path, content of a file, PIL image, or uint8 array (H, W), (H, W, 1) or (H, W, 3), in RGB.

    Returns:
        RGB, turned upright as its camera says, transparent pixels on white.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If ``image`` is of another type.
        ValueError: If the file is no image, damaged, of another format than JPEG, PNG, WebP, GIF and BMP, or of a kind
            that does not convert to RGB without loss of meaning (16 bit, float, CMYK, animated), see
            :func:`~mmmaskclip.datasets.transforms.decode.decode_image`; or the array is not uint8 or of another shape.
    """
    if isinstance(image, Image.Image):
        mode = image.mode.split(';')[0]
        if mode in _DEEP:
            raise ValueError(f'an image of mode {image.mode} has no fixed range: scale it to 8 bit')
        if mode == 'CMYK':
            raise ValueError('an image of mode CMYK needs a colour profile: convert it to RGB')
        return upright(on_white(image))
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, bytes):
        return _decode(image, f'image of {len(image)} bytes')
    if not isinstance(image, (str, PathLike)):
        raise TypeError(
            f'an image is a path, bytes, a PIL image or a uint8 array (H, W, 3), not {type(image).__name__}'
        )
    path = Path(image)
    if not path.is_file():
        raise FileNotFoundError(f'there is no image {path}')
    return _decode(path.read_bytes(), str(path))


def _decode(data: bytes, name: str) -> Image.Image:
    try:
        return decode_image(data, MOST_PIXELS)
    except BadSample as error:
        raise ValueError(f'{name}: {error}') from error


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ValueError(
            f'an array of {array.dtype} and shape {array.shape} is no image: give uint8 (H, W, 3) in RGB, or (H, W)'
        )
    return Image.fromarray(array.squeeze(2) if array.ndim == 3 and array.shape[2] == 1 else array).convert('RGB')


def to_pixels(image: ImageLike) -> Tensor:
    """An image as uint8 (3, H, W), turned as its camera says."""
    return TF.pil_to_tensor(open_image(image))


class ResizedImages(Dataset):
    """Images at a model's input size, opened one by one in the workers of a loader.

    Args:
        images: Images that :func:`open_image` takes.
        size: Height and width.
        interpolation: See :func:`~mmmaskclip.datasets.transforms.resize.resize_for_model`.
        resize_mode: Likewise. Defaults to ``'shortest'``.
        patch_size: Likewise. Defaults to 16.
    """

    def __init__(
        self,
        images: Sequence[ImageLike],
        size: tuple[int, int],
        interpolation: Literal['bilinear', 'bicubic'],
        resize_mode: ResizeMode = 'shortest',
        patch_size: int = 16,
    ) -> None:
        self.images = images
        self.how = (size, interpolation, resize_mode, patch_size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor | str:
        """The image as uint8 (3, height, width), or the reason why it cannot be used."""
        try:
            image = open_image(self.images[index])
        except (OSError, ValueError) as error:
            return str(error)
        return TF.pil_to_tensor(resize_for_model(image, *self.how))


def stacks_of_one_shape(images: Sequence[Tensor | str]) -> Iterator[tuple[list[int], Tensor]]:
    """Images that can be one batch: their places in the list, and their stack (B, 3, H, W); messages are left out."""
    shapes: dict[Any, list[int]] = {}
    for place, image in enumerate(images):
        if not isinstance(image, str):
            shapes.setdefault(image.shape, []).append(place)
    for places in shapes.values():
        yield places, torch.stack([cast(Tensor, images[place]) for place in places])


def refuse_one_image(images: Any) -> None:
    """Refuse one image, or its path, where a list belongs.

    Raises:
        TypeError: If ``images`` is one image.
    """
    if isinstance(images, (str, bytes, PathLike)) or not isinstance(images, Sized):
        raise TypeError(f'images is {images!r:.80}: give a list of images, [image]')
