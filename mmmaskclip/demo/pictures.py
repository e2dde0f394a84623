"""Maps as small pictures inside a page."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image

from mmmaskclip.models.open_vocabulary.dense_similarity import upsample_patches

# The browser enlarges them; more pixels would show nothing new.
MAP_SIDE = 384
# (256, 3), uint8: the colours of heat maps, as in the pictures of the command line.
TURBO = (colormaps['turbo'](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def data_url(image: Image.Image, kind: str = 'PNG') -> str:
    """An image as a ``data:`` URL."""
    file = io.BytesIO()
    image.save(file, kind, **({'quality': 88} if kind == 'JPEG' else {'optimize': True}))
    return f'data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}'


def map_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of the maps of a photo."""
    scale = MAP_SIDE / max(image.size)
    return max(1, round(image.height * scale)), max(1, round(image.width * scale))


def enlarge(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps of patches (T, h, w) at the size of a picture (T, H, W), bilinear."""
    return upsample_patches(torch.from_numpy(np.ascontiguousarray(maps))[None], size)[0].numpy()


def levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values as uint8: 0 at ``low`` or below, 255 at ``high`` or above."""
    return (255 * ((values - low) / max(high - low, 1e-12)).clip(0, 1)).round().astype(np.uint8)


def heat_map(values: np.ndarray, low: float, high: float) -> Image.Image:
    """A map (H, W) in colours from ``low`` to ``high``."""
    image = Image.fromarray(levels(values, low, high))
    image.putpalette(TURBO.tobytes())
    return image


def class_map(labels: np.ndarray, colours: list[tuple[int, int, int]]) -> Image.Image:
    """Class numbers (H, W) in the colours of the classes; -1, no class, is transparent."""
    table = np.array([*((*colour, 255) for colour in colours), (0, 0, 0, 0)], dtype=np.uint8)
    return Image.fromarray(table[labels])


def principal_components(features: np.ndarray, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The directions in which the patches of one photo differ most.

    Args:
        features: (D, h, w).
        count: How many. Defaults to 3, for red, green and blue.

    Returns:
        Components scaled to 0..1 from the 2nd to the 98th percentile (count, h, w), and the share of the variance that
        each explains (count,). The sign is chosen so that the largest deviation is positive: the same photo has the
        same colours on every machine. Components that a photo of few patches lacks are 0.5, with a share of 0.
    """
    patches = features.reshape(len(features), -1).T.astype(np.float64)  # (N, D)
    patches = patches - patches.mean(0)
    left, strength, _ = np.linalg.svd(patches, full_matrices=False)
    components, shares = np.full((count, len(patches)), 0.5), np.zeros(count)
    for index in range(min(count, len(strength))):
        values = left[:, index]
        if strength[index] < 1e-9:
            continue
        values = values * np.sign(values[np.abs(values).argmax()])
        low, high = np.percentile(values, (2, 98))
        components[index] = ((values - low) / max(high - low, 1e-12)).clip(0, 1)
        shares[index] = strength[index] ** 2 / (strength**2).sum()
    return components.reshape(count, *features.shape[1:]).astype(np.float32), shares


def likeness(features: np.ndarray) -> np.ndarray:
    """Cosine similarity of every patch with every other: (N, N) of features (D, h, w), N = h * w."""
    patches = features.reshape(len(features), -1)
    patches = patches / np.maximum(np.linalg.norm(patches, axis=0), 1e-12)
    return patches.T @ patches
