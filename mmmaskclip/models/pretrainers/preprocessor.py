"""The preprocessors: they move batches to the device and normalize the images there."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmmaskclip.datasets.transforms.resize import ResizeMode
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class ImageTextPreprocessor(BaseDataPreprocessor):
    """Move a batch to the device and normalize its images there.

    Images travel as uint8, a quarter of the bytes of float32. Every uint8 tensor of four or more dimensions is an image
    view; segmentation masks (B, H, W) are not touched.

    Args:
        mean: Mean of R, G and B in 0..255.
        std: Standard deviation of R, G and B in 0..255.
        interpolation: How images were resized when the weights were trained, ``'bilinear'`` or ``'bicubic'``; the
            inferencer and ``tools/test.py --model`` resize so, too. Defaults to ``'bilinear'``.
        resize_mode: How images of another shape were made to fit, likewise: ``'shortest'``, ``'longest'``,
            ``'squash'`` or ``'patches'``, see :func:`~mmmaskclip.datasets.transforms.resize.resize_for_model`. Defaults
            to ``'shortest'``.

    Attributes:
        keeps_pixels (bool): In training, leave images as uint8; the compiled model normalizes them within its patch
            embedding.

    Raises:
        ValueError: If ``interpolation`` or ``resize_mode`` is none of these.
    """

    def __init__(
        self,
        mean: list[float],
        std: list[float],
        interpolation: Literal['bilinear', 'bicubic'] = 'bilinear',
        resize_mode: ResizeMode = 'shortest',
    ):
        super().__init__(non_blocking=True)
        self.keeps_pixels = False
        if interpolation not in ('bilinear', 'bicubic'):
            raise ValueError(f"interpolation={interpolation!r}: choose 'bilinear' or 'bicubic'")
        if resize_mode not in get_args(ResizeMode):
            raise ValueError(f'resize_mode={resize_mode!r}: choose one of {", ".join(get_args(ResizeMode))}')
        self.interpolation: Literal['bilinear', 'bicubic'] = interpolation
        self.resize_mode: ResizeMode = resize_mode
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """The same batch on the device, images normalized, float32; names and ``caption_ends`` stay on the host."""
        batch = {name: value if _is_list(value) else self.cast_data(value) for name, value in data.items()}
        if not (training and self.keeps_pixels):
            batch = {name: self.normalize(value) if _is_image(value) else value for name, value in batch.items()}
        return batch

    def normalize(self, images: Tensor) -> Tensor:
        """Normalize images (..., 3, H, W) given in 0..255."""
        return (images.float() - self.mean) / self.std

    def denormalize(self, images: Tensor) -> Tensor:
        """Undo :meth:`normalize`: images (..., 3, H, W) in 0..255."""
        return images * self.std + self.mean


@MODELS.register_module()
class ImageViewsPreprocessor(ImageTextPreprocessor):
    """Give the self-supervised models of mmpretrain (SimCLR, MAE) the images of our datasets.

    Args:
        mean: Mean of R, G and B in 0..255.
        std: Standard deviation of R, G and B in 0..255.
        views: Names of the views in the batch. Defaults to ``image``.
    """

    def __init__(self, mean: list[float], std: list[float], views: Sequence[str] = ('image',)):
        super().__init__(mean, std)
        self.views = tuple(views)

    def forward(self, data: dict, training: bool = False) -> dict:
        """``inputs`` for mmpretrain: normalized images (B, 3, H, W), or a list of them for several views."""
        batch = super().forward({name: data[name] for name in self.views}, training)
        inputs = list(batch.values())
        return dict(inputs=inputs[0] if len(inputs) == 1 else inputs, data_samples=None)


def _is_list(value: object) -> bool:
    """Names of samples and numbers, which mmengine's method would look at one by one in every step."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], (str, int))


def _is_image(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.uint8 and value.ndim >= 4
