"""Sliding windows over an image that is larger than those of the training."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from mmmaskclip.models.open_vocabulary.dense_similarity import upsample_patches

# Windows per forward pass.
_BATCH = 16


def window_starts(side: int, window: int, unit: int = 1) -> list[int]:
    """Starts of windows that overlap by half; the last window ends with the image.

    Args:
        side: Length of the image.
        window: Length of a window, at most ``side``.
        unit: Starts are multiples of this, if ``side`` and ``window`` are. Defaults to 1.
    """
    stride = max(1, window // 2 // unit) * unit
    return [min(start, side - window) for start in range(0, side - window + stride, stride)]


def read_windows(image: Tensor, window: Sequence[int], patch: int, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Patch vectors from windows aligned to whole patches; the mean where windows overlap.

    Args:
        image: Normalized (1, 3, H, W), H and W multiples of ``patch``.
        window: Height and width of a window, likewise multiples, at most the image's.
        patch: Side of a patch.
        encode: Maps windows (B, 3, *window) to vectors (B, D, h, w), one per patch.

    Returns:
        (D, H / patch, W / patch).
    """
    height, width = image.shape[2:]
    places = [(y, x) for y in window_starts(height, window[0], patch) for x in window_starts(width, window[1], patch)]
    total, count = None, image.new_zeros(height // patch, width // patch)
    for some in (places[start : start + _BATCH] for start in range(0, len(places), _BATCH)):
        vectors = encode(torch.cat([TF.crop(image, *place, *window) for place in some]))  # (B, D, h, w)
        if total is None:
            total = vectors.new_zeros(vectors.shape[1], *count.shape)
        for (y, x), one in zip(some, vectors, strict=True):
            area = slice(y // patch, y // patch + one.shape[1]), slice(x // patch, x // patch + one.shape[2])
            total[:, area[0], area[1]] += one
            count[area] += 1
    assert total is not None
    return total / count


def average_windows(image: Tensor, window: Sequence[int], maps_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Pixel maps from windows at any offset; the mean where windows overlap.

    Unlike mmseg's ``EncoderDecoder.slide_inference``, this function needs no segmentor around the model, and it encodes
    several windows at once.

    Args:
        image: Normalized (1, 3, H, W).
        window: Height and width of a window, at most the image's.
        maps_of: Maps windows (B, 3, *window) to maps of patches (B, T, h, w).

    Returns:
        (T, H, W).
    """
    height, width = image.shape[2:]
    places = [(top, left) for top in window_starts(height, window[0]) for left in window_starts(width, window[1])]
    total, count = None, image.new_zeros(height, width)
    for some in (places[start : start + _BATCH] for start in range(0, len(places), _BATCH)):
        maps = maps_of(torch.cat([TF.crop(image, *place, *window) for place in some]))  # (B, T, h, w)
        if total is None:
            total = maps.new_zeros(maps.shape[1], height, width)
        for (top, left), one in zip(some, maps, strict=True):
            total[:, top : top + window[0], left : left + window[1]] += upsample_patches(one[None], window)[0]
            count[top : top + window[0], left : left + window[1]] += 1
    assert total is not None
    return total / count
