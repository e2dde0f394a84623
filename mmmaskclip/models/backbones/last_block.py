"""The last block of an image tower in parts that a read-out recombines, for one image or for windows of an image."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional as F

Grid = tuple[int, int]
#: q, k and v, (B, H, T, d) each.
Heads = Sequence[Tensor]
#: Attention weights (B, H, T, S) of T queries over S keys, from the heads of both and squared distances (T, S).
Weigh = Callable[[Heads, Heads, Tensor], Tensor]


class ReadableBlock(Protocol):
    """A transformer block whose parts a read-out can call; tokens are (B, T, C)."""

    def __call__(self, x: Tensor) -> Tensor:
        """The whole block."""
        ...

    def heads(self, x: Tensor) -> Sequence[Tensor]:
        """q, k and v (B, H, T, d) of the block's input, after its norms and rotary positions."""
        ...

    def project(self, attended: Tensor) -> Tensor:
        """What attention adds to the tokens, (B, T, C), from the joined heads (B, T, H d)."""
        ...

    def feed_forward(self, x: Tensor) -> Tensor:
        """The block's second half, with its residual."""
        ...

    @property
    def neurons_reader(self) -> nn.Linear:
        """The layer that reads the neurons of the feed-forward network."""
        ...


@contextmanager
def gathered(block: Any) -> Iterator[Any]:
    """The block with all its parameters. Outside the block's forward pass, FSDP keeps only a shard of them."""
    module = getattr(block, 'module', block)
    sharded = isinstance(module, FSDPModule)
    if sharded:
        module.unshard()
    try:
        yield block
    finally:
        if sharded:
            module.reshard()


def scores(a: Tensor, b: Tensor) -> Tensor:
    """Scaled dot products (B, H, T, T) in float32, the precision of the softmax."""
    return (a @ b.transpose(-1, -2)).float() * a.shape[-1] ** -0.5


def joined(attended: Tensor) -> Tensor:
    """Heads (B, H, T, d) side by side, (B, T, H d)."""
    return attended.transpose(1, 2).flatten(2)


def squared_distances(grid: Grid, tokens: int, device: torch.device) -> Tensor:
    """Squared distances between the patches of a grid, (T, T); infinite where a token is no patch."""
    places = cells(grid, device)
    apart = (places[:, None] - places).square().sum(-1)  # (N, N)
    extra = tokens - grid[0] * grid[1]
    return F.pad(apart, (extra, 0, extra, 0), value=torch.inf)


def cells(grid: Grid, device: torch.device) -> Tensor:
    """Row and column of every patch, float32 (N, 2)."""
    # Expanded and not repeated, so that an exported graph accepts any grid.
    rows = torch.arange(grid[0], device=device, dtype=torch.float32)[:, None].expand(*grid).reshape(-1)  # (N,)
    columns = torch.arange(grid[1], device=device, dtype=torch.float32).expand(*grid).reshape(-1)  # (N,)
    return torch.stack((rows, columns), dim=-1)


def attend(last: Any, x: Tensor, grid: Grid, weigh: Weigh) -> Tensor:
    """Attention output (B, H, T, d) of the last block for tokens x (B, T, C), with the weights of ``weigh``."""
    heads = last.heads(x)
    if isinstance(last, StitchedBlock):
        return last.attended(heads, grid, weigh)
    weights = weigh(heads, heads, squared_distances(grid, x.shape[1], x.device))  # (B, H, T, T)
    return weights.to(heads[2].dtype) @ heads[2]


class StitchedBlock:
    """A last block in which the patches of a window see those of all windows of the image.

    After OV-Stitcher (Moon et al., CVPR 2026 Findings), which stitches features in the final block; we had not its
    equations. Here a patch attends to the patches of all windows, which need not lie on one grid. A patch in two
    windows is seen twice. A window's class token and registers are seen by that window only.

    Args:
        block: The block.
        windows: Row and column of the first patch of each window of the batch, in patches, not always whole.
        grid: Rows and columns of a window's patches.
    """

    def __init__(self, block: Any, windows: Sequence[tuple[float, float]], grid: Grid):
        self.module = getattr(block, 'module', block)
        self.block, self.windows, self.grid = block, windows, grid

    def __call__(self, x: Tensor) -> Tensor:
        """The block with its queries and keys."""

        def weigh(tokens: Heads, seen: Heads, apart: Tensor) -> Tensor:
            return scores(tokens[0], seen[1]).softmax(-1)

        with gathered(self.block):
            return self.feed_forward(x + self.project(joined(self.attended(self.heads(x), self.grid, weigh))))

    def attended(self, heads: Heads, grid: Grid, weigh: Weigh) -> Tensor:
        """Attention output (W, H, T, d) of W windows, window by window: all weights at once would take gigabytes."""
        count = grid[0] * grid[1]
        # Of all windows, side by side: (1, H, W N, d).
        patches = [part[:, :, -count:].transpose(0, 1).flatten(1, 2).unsqueeze(0) for part in heads]
        place = cells(grid, heads[0].device)  # (N, 2)
        corners = place.new_tensor(list(self.windows))  # (W, 2)
        everywhere = (corners[:, None] + place).flatten(0, 1)  # (W N, 2)
        extra = heads[0].shape[2] - count
        attended = []
        for window, corner in enumerate(corners):
            tokens = [part[window : window + 1] for part in heads]
            seen = [torch.cat((part[:, :, :extra], every), 2) for part, every in zip(tokens, patches, strict=True)]
            apart = (corner + place)[:, None].sub(everywhere).square().sum(-1)  # (N, W N)
            weights = weigh(tokens, seen, F.pad(apart, (extra, 0, extra, 0), value=torch.inf))
            attended.append(weights.to(seen[2].dtype) @ seen[2])
        return torch.cat(attended)

    def heads(self, x: Tensor) -> Heads:
        """The wrapped block's."""
        return self.block.heads(x)

    def project(self, attended: Tensor) -> Tensor:
        """The wrapped block's."""
        return self.block.project(attended)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The wrapped block's."""
        return self.block.feed_forward(x)

    @property
    def neurons_reader(self) -> nn.Linear:
        """The wrapped block's."""
        return self.block.neurons_reader
