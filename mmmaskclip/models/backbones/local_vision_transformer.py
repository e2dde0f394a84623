"""An image tower whose patch features stay local: a convolutional stem, and attention between neighbours."""

from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.models.utils import build_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.checkpoints.image_tower import square_grid
from mmmaskclip.contracts import ImageFeatures
from mmmaskclip.models.backbones.transformer_block import TransformerBlock, gather_tokens
from mmmaskclip.models.backbones.vision_transformer import CLIPVisionTransformer
from mmmaskclip.registry import MODELS


class ConvStem(nn.Module):
    """Patch embedding by a few strided convolutions in place of one (Xiao et al. 2021, "Early Convolutions Help
    Transformers See Better").

    Each convolution has stride 2. A kernel of 2 sees no pixel of another patch; one of 4 is padded by 1, which keeps it
    centred on its patch, where a kernel of 3 would shift the map by half a patch.

    Args:
        embed_dims: Width C of the patches.
        channels: Channels after each convolution; the patch size is 2 to the power of their number.
        kernels: Kernel of each convolution, 2 or 4.
        norm_cfg: Norm after each convolution. Defaults to ``LN2d``, over the channels of one position: it looks at no
            other position and keeps no statistics, so that masked passes, EMA copies and micro-batches need no care.

    Raises:
        ValueError: If a kernel is neither 2 nor 4, or there are not as many kernels as channels.
    """

    def __init__(self, embed_dims: int, channels: Sequence[int], kernels: Sequence[int], norm_cfg: dict | None = None):
        super().__init__()
        if len(channels) != len(kernels) or set(kernels) - {2, 4}:
            raise ValueError(
                f'stem has channels={tuple(channels)} and kernels={tuple(kernels)}: give one kernel, 2 or 4, for each'
            )
        self.stride = 2 ** len(channels)
        layers: list[nn.Module] = []
        for before, after, kernel in zip((3, *channels), channels, kernels, strict=False):
            norm = build_norm_layer(norm_cfg or dict(type='LN2d'), after)
            # No bias: the norm would subtract it again.
            layers += [nn.Conv2d(before, after, kernel, 2, (kernel - 2) // 2, bias=False), norm, nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers)
        self.projection = nn.Conv2d(channels[-1], embed_dims, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patches (B, N, C) of images (B, 3, H, W), padded with zeros to whole patches, and their grid."""
        height, width = images.shape[-2:]
        x = F.pad(images, (0, -width % self.stride, 0, -height % self.stride))
        x = self.projection(self.convolutions(x))  # (B, C, rows, columns)
        return x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3])


class NeighbourhoodBlock(TransformerBlock):
    """The transformer block with attention between neighbouring patches only. Parameters are the same.

    Attributes:
        reach: Side of the neighbourhood, in patches.
        num_extra: Tokens in front of the patches. They attend to everything, and only they attend to themselves:
            a patch that sees the class token learns what is elsewhere.
    """

    reach: int
    num_extra: int

    def forward(self, x: Tensor, allowed: Tensor | None = None) -> Tensor:
        """The block on tokens (B, E + N, C).

        Args:
            x: Tokens.
            allowed: Which patch may look at which, bool (N, N) or (B, N, N). By default the N patches are those of a
                square grid, and the block computes it.
        """
        if allowed is None:
            allowed = neighbours(x.shape[1] - self.num_extra, self.reach, x.device)
        # The extra tokens' rows are all True, their columns False for patches.
        rows = F.pad(allowed, (self.num_extra, 0), value=False)
        mask = F.pad(rows, (0, 0, self.num_extra, 0), value=True)  # (..., E + N, E + N)
        if mask.ndim == 3:
            mask = mask.unsqueeze(1)  # (B, 1, E + N, E + N)
        q, k, v = self.split_heads(self.attn.qkv(self.ln1(x)))  # (B, heads, E + N, C / heads)
        dropout = self.attn.attn_drop if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        x = x + self.project(attended.transpose(1, 2).flatten(2))  # (B, E + N, C)
        return self.feed_forward(x)


def neighbours(num_patches: int, reach: int, device: torch.device) -> Tensor:
    """Which of the N patches of a square grid lie in each other's ``reach`` x ``reach`` neighbourhood, bool (N, N).

    Raises:
        ValueError: If the patches form no square grid.
    """
    grid = square_grid(num_patches)
    if grid is None:
        raise ValueError(
            f'a tower with neighbourhood={reach} needs square images, and {num_patches} patches form no square: '
            "resize to a square, or segment in windows (inference='slide')"
        )
    index = torch.arange(num_patches, device=device)
    row, column = index // grid[1], index % grid[1]
    distance = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
    return distance <= reach // 2


@MODELS.register_module()
class LocalVisionTransformer(CLIPVisionTransformer):
    """A ViT image tower for dense features, with a convolutional stem and attention between neighbours.

    In a plain ViT each patch sees all others, and mean pooling gives every patch the same gradient. So every patch
    learns to describe the whole image. Here a patch sees its surroundings only.

    Args:
        stem: Arguments of :class:`ConvStem` without ``embed_dims``. None keeps the usual patch embedding, the default.
        neighbourhood: Side in patches, an odd number, of the square that a patch attends to, in training and after it.
            None, the default: the whole image. Images must then be square.
        **kwargs: Arguments of :class:`CLIPVisionTransformer`.

    Raises:
        ValueError: If ``neighbourhood`` is no odd number, contradicts ``window_size``, or the stem makes other patches
            than ``patch_size`` says.
    """

    patch_embed: Any

    def __init__(self, *args: Any, stem: dict | None = None, neighbourhood: int | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if stem is not None:
            usual = self.patch_embed.projection.stride[0]
            self.patch_embed = ConvStem(self.embed_dims, **stem)
            if self.patch_embed.stride != usual:
                raise ValueError(
                    f'stem has {len(stem["channels"])} convolutions of stride 2, hence patches of '
                    f'{self.patch_embed.stride} pixels, but patch_size is {usual}: make them equal'
                )
        self.neighbourhood = neighbourhood
        if neighbourhood is None:
            return
        if neighbourhood < 1 or neighbourhood % 2 == 0:
            raise ValueError(f'neighbourhood={neighbourhood}: give an odd number of patches, e.g. 3')
        if self.window_size is not None:
            raise ValueError(f'neighbourhood={neighbourhood} with window_size={self.window_size}: choose one of them')
        for layer in self.layers:
            # mmpretrain's tower builds its own blocks; this one differs from them in forward alone.
            layer.__class__ = NeighbourhoodBlock
            layer.reach, layer.num_extra = neighbourhood, 1 + self.num_registers

    @property
    def patch_size(self) -> tuple[int, int]:
        if isinstance(self.patch_embed, ConvStem):
            return self.patch_embed.stride, self.patch_embed.stride
        return super().patch_size

    def encode(self, patches: Tensor, visible: Tensor | None = None) -> ImageFeatures:
        if self.neighbourhood is None or visible is None:
            return super().encode(patches, visible)
        allowed = neighbours(patches.shape[1], self.neighbourhood, patches.device)
        allowed = allowed[visible.unsqueeze(2), visible.unsqueeze(1)]  # (B, K, K)
        x = self.first_input(gather_tokens(patches, visible))  # (B, E + K, C)
        for layer in self.layers:
            x = layer(x, allowed)
        return ImageFeatures(*self.read_tokens(x))
