"""Images at the size at which a model was trained, resized as they were then."""

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
        resize_mode: ``'shortest'``: the shorter side is resized and the middle cropped, where height and width are
            equal; to others the image is resized as a whole. ``'longest'``: the longer side is resized, and black added
            on both sides. ``'squash'``: the image is resized as a whole, whatever its shape.
    """
    method, (height, width) = InterpolationMode(interpolation), size
    if resize_mode == 'longest':
        scale = min(height / image.height, width / image.width)
        new = [round(image.height * scale), round(image.width * scale)]
        return TF.center_crop(TF.resize(image, new, method), [height, width])
    if resize_mode == 'squash' or height != width:
        return TF.resize(image, [height, width], method)
    return TF.center_crop(TF.resize(image, [height], method), [height])
