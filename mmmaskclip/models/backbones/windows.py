"""Window attention: the cost of a ViT's windowed blocks becomes linear in the number of patches."""

from __future__ import annotations

import torch
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.models.backbones.transformer_block import TransformerBlock


class WindowedEncoderLayer(TransformerBlock):
    """Our transformer block with optional window attention. Parameters and their names are the same."""

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None, window_size: int = 0) -> Tensor:
        """Run the block.

        Args:
            x: Tokens (B, E + rows * columns, C); the first E are extra tokens (class token, registers).
            grid: Patch grid (rows, columns). None: global attention.
            window_size: Side of a window in patches.
        """
        if grid is None:
            return super().forward(x)
        x = x + attend_in_windows(self.attn, self.ln1(x), grid, window_size)  # (B, E + rows * columns, C)
        return self.feed_forward(x)


def attend_in_windows(attention: MultiheadAttention, x: Tensor, grid: tuple[int, int], window_size: int) -> Tensor:
    """Multi-head attention of tokens (B, E + rows * columns, C) inside windows of the patch grid.

    Every window holds a copy of the E extra tokens (class token, registers), and its tokens attend only to each other.
    With windows as large as the pretraining grid, a window looks like an image of the pretraining. Windows begin at the
    top left; those at the right and the bottom edge hold the remaining patches. The result equals padding to whole
    windows with the padding masked out. It saves the cost of padding, and flash attention has no kernel for masks. The
    output of an extra token is the mean over its copies. Linear layers run once per token, for any number of windows.

    ViT-B/16 on an image of 800 x 1333 pixels (50 x 84 patches) needs 475 instead of 682 GMAC forward with 8 of 12
    blocks in windows of 14. One such block, forward and backward in float32 on one CPU thread, took 3.8 instead of
    15.0 s and kept 210 instead of 197 MiB of activations (2026-11-22, a busy machine): torch's fused attention never
    stores the attention matrix, so windows save time, not memory. The price is reach: only the global blocks see beyond
    a window.

    Args:
        attention: The block's attention.
        x: Tokens after the block's norm, (B, E + rows * columns, C).
        grid: Patch grid (rows, columns).
        window_size: Side of a window in patches.

    Returns:
        The attention branch of the block (without the residual), in the shape of ``x``.
    """
    # (B, N, 3, heads, C') with N = E + rows * columns and C' = C / heads
    qkv = attention.qkv(x).unflatten(-1, (3, attention.num_heads, attention.head_dims))
    num_extra = x.shape[1] - grid[0] * grid[1]
    # (B, E, 3, heads, C'), (B, rows, columns, 3, heads, C')
    extra, patches = qkv[:, :num_extra], qkv[:, num_extra:].unflatten(1, grid)
    dropout = attention.attn_drop if attention.training else 0.0
    rows, copies = [], []
    for top, bottom, height in _spans(grid[0], window_size):
        parts = []
        for left, right, width in _spans(grid[1], window_size):
            part = patches[:, top:bottom, left:right]
            part = part.unflatten(2, (-1, width)).unflatten(1, (-1, height))  # (B, vertical, h, horizontal, w, ...)
            windows = part.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (B, windows, h * w, 3, heads, C')
            shared = extra.unsqueeze(1).expand(-1, windows.shape[1], -1, -1, -1, -1)
            # each (B * windows, heads, E + h * w, C')
            q, k, v = torch.cat((shared, windows), dim=2).flatten(0, 1).permute(2, 0, 3, 1, 4)
            attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
            # (B, windows, E + h * w, C)
            attended = attended.transpose(1, 2).flatten(2).unflatten(0, windows.shape[:2])
            copies.append(attended[:, :, :num_extra])
            part = attended[:, :, num_extra:].unflatten(2, (height, width)).unflatten(1, (-1, (right - left) // width))
            parts.append(part.transpose(2, 3).flatten(3, 4).flatten(1, 2))  # (B, bottom - top, right - left, C)
        rows.append(torch.cat(parts, dim=2))
    mixed = torch.cat((torch.cat(copies, dim=1).mean(1), torch.cat(rows, dim=1).flatten(1, 2)), dim=1)
    # The rest of mmpretrain's attention. It runs on whole images: DropPath drops images, not windows.
    return attention.out_drop(attention.gamma1(attention.proj_drop(attention.proj(mixed))))


def make_windowed(layers: nn.ModuleList, window_size: int, global_blocks: tuple[int, ...] | None) -> set[int]:
    """Switch the blocks of a tower to window attention, except for some global blocks.

    Args:
        layers: The blocks, changed in place.
        window_size: Side of a window in patches.
        global_blocks: Indices of the blocks that stay global. None: the last of every quarter (ViTDet, section 3).

    Returns:
        Indices of the windowed blocks.

    Raises:
        ValueError: If ``window_size`` or an index is out of range.
    """
    count = len(layers)
    if window_size < 1:
        raise ValueError(f'window_size={window_size} must be the side of a window in patches, e.g. 14')
    if global_blocks is None:
        global_blocks = tuple(count * (quarter + 1) // 4 - 1 for quarter in range(4))
    if outside := [index for index in global_blocks if not 0 <= index < count]:
        raise ValueError(f'global_blocks {outside} are no blocks of this tower, which has 0 to {count - 1}')
    windowed = set(range(count)) - set(global_blocks)
    for index in windowed:
        # mmpretrain's tower builds the blocks itself. WindowedEncoderLayer differs from them only in forward.
        layers[index].__class__ = WindowedEncoderLayer
    return windowed


def _spans(length: int, size: int) -> list[tuple[int, int, int]]:
    """Start, end and window side along one axis: first of the full windows, then of the remaining patches."""
    full = length // size * size
    return [span for span in ((0, full, size), (full, length, length - full)) if span[0] < span[1]]
