"""Where a text is in an image: similarities of patch embeddings with text embeddings, and their way to pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def dense_similarity(patch_embeds: Tensor, text_embeds: Tensor) -> Tensor:
    """Cosine similarity of every patch with every text.

    Args:
        patch_embeds: (B, D, h, w) of a model's ``encode_dense``.
        text_embeds: (T, D), L2-normalized.

    Returns:
        (B, T, h, w), float32.
    """
    return torch.einsum('bdhw,td->bthw', patch_embeds.float(), text_embeds.float())


def upsample_patches(values: Tensor, size: Sequence[int], fraction: Sequence[float] = (1.0, 1.0)) -> Tensor:
    """Upsample values of patches to pixels (bilinear, pixel centres), without the padding at bottom and right.

    Args:
        values: (B, T, h, w).
        size: Height H and width W of the result, those of the image.
        fraction: Fraction of the patch grid that the image fills, see
            :meth:`~mmmaskclip.models.backbones.CLIPVisionTransformer.unpadded_fraction`. Defaults to all of it.

    Returns:
        (B, T, H, W).
    """
    height, width = size
    padded = [round(side / part) for side, part in zip(size, fraction, strict=True)]
    return F.interpolate(values, size=padded, mode='bilinear', align_corners=False)[..., :height, :width]
