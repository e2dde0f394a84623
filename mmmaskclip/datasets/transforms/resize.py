"""Resizes images to a model's input size by the model's training-time rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from mmmaskclip.registry import TRANSFORMS

ResizeMode = Literal['shortest', 'longest', 'squash', 'patches']


def resize_for_model(
    image: Image.Image,
    size: Sequence[int],
    interpolation: str,
    resize_mode: ResizeMode = 'shortest',
    patch_size: int = 16,
) -> Image.Image:
    """Resize an image by PIL, with antialiasing, to the pixels that OpenCLIP's ``image_transform`` gives.

    Args:
        image: RGB.
        size: Height and width.
        interpolation: ``'bilinear'`` or ``'bicubic'``.
        resize_mode: ``'shortest'``: resize the shorter side and crop the centre; if ``size`` is not square, like
            ``'squash'``. ``'longest'``: resize the longer side and pad both ends of the shorter one with black.
            ``'squash'``: resize both sides, whatever the aspect ratio. ``'patches'``: keep the aspect ratio, to no more
            patches than ``size`` has, see :func:`size_of_patches`.
        patch_size: Side of a patch in pixels, for ``'patches'``. Defaults to 16.
    """
    method, (height, width) = InterpolationMode(interpolation), size
    if resize_mode == 'longest':
        scale = min(height / image.height, width / image.width)
        new = [round(image.height * scale), round(image.width * scale)]
        return TF.center_crop(TF.resize(image, new, method), [height, width])
    if resize_mode == 'patches':
        budget = (height // patch_size) * (width // patch_size)
        return TF.resize(image, list(size_of_patches((image.height, image.width), patch_size, budget)), method)
    if resize_mode == 'squash' or height != width:
        return TF.resize(image, [height, width], method)
    return TF.center_crop(TF.resize(image, [height], method), [height])


def size_of_patches(size: Sequence[int], patch_size: int, budget: int) -> tuple[int, int]:
    """Height and width in whole patches that keep an image's aspect ratio, for a budget of patches.

    SigLIP 2's NaFlex (Tschannen et al. 2025, section 2.4.2): the image is scaled as far as the budget reaches, then
    each side is rounded up to whole patches. The grid changes only where a side is a whole number of patches, so that
    these scales alone are looked at.

    Args:
        size: The image's height and width in pixels.
        patch_size: Side of a patch in pixels.
        budget: Number of patches that is not exceeded.
    """
    best, found = Fraction(0), (1, 1)
    for side, other, turned in ((*size, False), (*reversed(size), True)):
        for count in range(1, budget + 1):
            across = math.ceil(Fraction(other * count, side))
            if count * across <= budget and Fraction(count, side) > best:
                best, found = Fraction(count, side), ((across, count) if turned else (count, across))
    return found[0] * patch_size, found[1] * patch_size


@TRANSFORMS.register_module()
class ResizeToPatches:
    """Resize an image to whole patches, its aspect ratio kept (NaFlex), see :func:`size_of_patches`.

    Images of different shapes form no batch: give the loader ``batch_size=1``.

    Args:
        patch_size: Side of a patch in pixels. Defaults to 16.
        max_patches: Largest number of patches. Defaults to 256, that of SigLIP 2's processor.
        interpolation: ``'bilinear'`` or ``'bicubic'``. Defaults to ``'bilinear'``.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(self, patch_size: int = 16, max_patches: int = 256, interpolation: str = 'bilinear') -> None:
        if patch_size < 1 or max_patches < 1:
            raise ValueError(f'ResizeToPatches: patch_size={patch_size}, max_patches={max_patches}: both are positive')
        self.patch_size, self.max_patches = patch_size, max_patches
        self.interpolation = InterpolationMode(interpolation)

    def __call__(self, image: Image.Image) -> Image.Image:
        size = size_of_patches((image.height, image.width), self.patch_size, self.max_patches)
        return TF.resize(image, list(size), self.interpolation)
