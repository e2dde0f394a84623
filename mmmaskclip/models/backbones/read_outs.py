"""What stands for a place in an image: the ways to read features of single patches out of the image tower."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from mmmaskclip.models.backbones import CLIPVisionTransformer, ImageFeatures

READ_OUTS = ('patch', 'value')


def dense_features(
    tower: CLIPVisionTransformer, images: Tensor, read_out: str = 'patch'
) -> tuple[ImageFeatures, tuple[int, int]]:
    """Features of every patch of images of any size.

    Args:
        tower: The image tower.
        images: Normalized images, (B, 3, H, W). Where H or W is no multiple of the patch size, the tower fills up at
            the bottom and the right with zeros, the mean colour.
        read_out: ``'patch'``, the tower's output. Or ``'value'``: in the last block every token attends only to itself,
            so that its value, projected, takes the place of the attention's output; all else stays (Zhou et al. 2022,
            "Extract Free Dense Labels from CLIP", section 3.2 and their code). CLIP's last attention gathers global
            information for the class token, and so its patch tokens say little about their own place.

    Returns:
        The features, N = rows x columns of them per image, and the grid (rows, columns), rounded up.

    Raises:
        ValueError: If ``read_out`` is unknown.
    """
    if read_out not in READ_OUTS:
        raise ValueError(f'read_out={read_out!r}: choose one of {", ".join(READ_OUTS)}')
    tokens, grid = tower.embed(images)
    return (tower.encode(tokens) if read_out == 'patch' else _encode_values(tower, tokens)), grid


def _encode_values(tower: CLIPVisionTransformer, tokens: Tensor) -> ImageFeatures:
    x = tower._prepare(tokens)
    for layer in tower.layers[:-1]:
        x = layer(x)
    last = tower.layers[-1]
    attention = last.attn
    value = attention.qkv(last.ln1(x)).chunk(3, dim=-1)[2]
    x = x + attention.out_drop(attention.gamma1(attention.proj_drop(attention.proj(value))))
    x = last.ffn(last.ln2(x), identity=x)
    if tower.final_norm:
        x = tower.ln1(x)
    return ImageFeatures(cls=x[:, 0], patches=x[:, 1 + tower.num_registers :])


def image_share(tower: CLIPVisionTransformer, size: Sequence[int]) -> tuple[float, float]:
    """How much of the height and width of the tower's patches an image covers; less than 1 where it was filled up.

    Args:
        tower: The image tower.
        size: Height H and width W of the image in pixels.

    Returns:
        ``H / (h p)`` and ``W / (w p)`` for h x w patches of p pixels.
    """
    patch = tower.patch_embed.projection.stride
    height, width = (side / (-(-side // pixels) * pixels) for side, pixels in zip(size, patch, strict=True))
    return height, width


def upsample_patches(values: Tensor, size: Sequence[int], share: Sequence[float] = (1.0, 1.0)) -> Tensor:
    """Brings values of patches to pixels (bilinear, pixel centres), without what the tower added at bottom and right.

    Args:
        values: (B, C, h, w).
        size: Height and width of the result, those of the image.
        share: How much of the patches' height and width the image covers, see :func:`image_share`. Defaults to all.

    Returns:
        (B, C, *size).
    """
    height, width = size
    whole = [round(side / part) for side, part in zip(size, share, strict=True)]
    return F.interpolate(values, size=whole, mode='bilinear', align_corners=False)[..., :height, :width]
