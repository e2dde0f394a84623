"""Views of an image: one list of transforms per view."""

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torchvision.transforms.v2 as v2
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from mmmaskclip.datasets.sampling import seeded, stable_hash
from mmmaskclip.registry import TRANSFORMS


def _build(cls: type, **kwargs: Any) -> Any:
    interpolation = kwargs.get('interpolation')
    if isinstance(interpolation, str):
        try:
            kwargs['interpolation'] = v2.InterpolationMode(interpolation)
        except ValueError:
            known = ', '.join(mode.value for mode in v2.InterpolationMode)
            raise ValueError(f'{cls.__name__}: unknown interpolation {interpolation!r}; known are {known}') from None
    if 'transforms' in kwargs:
        # RandomApply, RandomChoice and the like hold transforms of their own.
        kwargs['transforms'] = _build_steps(kwargs['transforms'])
    return cls(**kwargs)


def _build_steps(steps: Sequence[Any]) -> list[Any]:
    return [TRANSFORMS.build(step) if isinstance(step, dict) else step for step in steps]


def _register_torchvision() -> None:
    """Register torchvision's transforms (v2) as ``torchvision/NAME``.

    mmpretrain registers these names too, but for torchvision's old transforms, wrapped to work on dicts. Importing
    mmpretrain's takes seconds in every spawned worker.
    """
    for name, cls in vars(v2).items():
        if inspect.isclass(cls) and issubclass(cls, v2.Transform) and cls is not v2.Transform:
            TRANSFORMS.register_module(name=f'torchvision/{name}', module=partial(_build, cls))


_register_torchvision()


class ImageViews:
    """Makes every configured view of an image.

    Args:
        views: Name of the view to its transforms, each a config (``dict(type='torchvision/RandomResizedCrop', size=224,
            scale=(0.5, 1), interpolation='bicubic')``) or a callable, applied in turn to an RGB PIL image. The result
            of the last transform becomes a uint8 tensor; a list of images (crops) becomes one stacked tensor.
    """

    def __init__(self, views: dict[str, list[Any]]) -> None:
        if not views or not isinstance(views, dict):
            raise ValueError(f'views must be a dict like dict(image=[transforms]), got {views!r}')
        self._views = {name: _build_steps(steps) for name, steps in views.items()}

    def __call__(self, image: Image.Image | Tensor, seed: int) -> dict[str, Tensor]:
        """Transform one image.

        Args:
            image: RGB; a tensor is uint8 (3, H, W).
            seed: The seed of the sample. The randomness of a view depends only on this seed and the view's name:
                adding a view does not change the others.

        Returns:
            uint8 tensors (3, H, W), or (n, 3, h, w) for a view of n crops, by name of the view.
        """
        result = {}
        for name, steps in self._views.items():
            with seeded(stable_hash(seed, name)):
                view: Any = image
                for step in steps:
                    view = step(view)
                result[name] = _to_uint8(view, name)
        return result


def _to_uint8(view: Any, name: str) -> Tensor:
    if isinstance(view, (list, tuple)):
        return torch.stack([_to_uint8(crop, name) for crop in view])
    if isinstance(view, Image.Image):
        # pil_to_tensor returns a strided view of (H, W, 3) memory; collation copies it in any case.
        view = F.pil_to_tensor(view)  # (3, H, W)
    if not isinstance(view, Tensor) or view.dtype != torch.uint8:
        kind = f'{view.dtype} tensor' if isinstance(view, Tensor) else type(view).__name__
        raise TypeError(
            f'the transforms of view {name!r} must end with a PIL image or a uint8 tensor, got a {kind}; images are '
            'normalized on the device, by the data preprocessor'
        )
    return view
