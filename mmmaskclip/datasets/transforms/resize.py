"""Resizes images to a model's input size by the model's training-time rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

ResizeMode = Literal['shortest', 'longest', 'squash']


def resize_for_model(
    image: Image.Image, size: Sequence[int], interpolation: str, resize_mode: ResizeMode = 'shortest'
) -> Image.Image:
    """Resize an image by PIL, with antialiasing, to the pixels that OpenCLIP's ``image_transform`` gives.

    Args:
        image: RGB.
        size: Height and width.
        interpolation: ``'bilinear'`` or ``'bicubic'``.
        resize_mode: ``'shortest'``: resize the shorter side and crop the centre; if ``size`` is not square, like
            ``'squash'``. ``'longest'``: resize the longer side and pad both ends of the shorter one with black.
            ``'squash'``: resize both sides, whatever the aspect ratio.
    """
    method, (height, width) = InterpolationMode(interpolation), size
    if resize_mode == 'longest':
        scale = min(height / image.height, width / image.width)
        new = [round(image.height * scale), round(image.width * scale)]
        return TF.center_crop(TF.resize(image, new, method), [height, width])
    if resize_mode == 'squash' or height != width:
        return TF.resize(image, [height, width], method)
    return TF.center_crop(TF.resize(image, [height], method), [height])
