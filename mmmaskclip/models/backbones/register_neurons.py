"""Test-time registers: an extra, untrained token takes the outliers away from the patches.

Jiang et al., "Vision Transformers Don't Need Trained Registers", NeurIPS 2025: a few neurons of the feed-forward
networks make the patches of large norm in which CLIP keeps global information. Moving their activation to one more
token moves the outliers there.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Neurons = Mapping[int | str, Sequence[int]]


@contextmanager
def move_activations(blocks: Sequence[Any], neurons: Neurons, position: int) -> Iterator[None]:
    """Within this context the neurons are active at one token only, with their largest activation over all tokens.

    Args:
        blocks: Blocks of the image tower, see :class:`~mmmaskclip.models.backbones.last_block.ReadableBlock`.
        neurons: Indices of neurons of the feed-forward network by index of the block.
        position: Index of the token.

    Raises:
        ValueError: If there is no such block or neuron.
    """
    with ExitStack() as stack:
        for block, chosen in neurons.items():
            if not 0 <= int(block) < len(blocks):
                raise ValueError(f'registers of block {block}: this tower has the blocks 0 to {len(blocks) - 1}')
            reader = blocks[int(block)].neurons_reader
            width = reader.in_features
            if outside := [index for index in chosen if not 0 <= index < width]:
                raise ValueError(f'registers {outside} of block {block}: its neurons are 0 to {width - 1}')
            handle = reader.register_forward_pre_hook(partial(_move, chosen=list(chosen), position=position))
            stack.callback(handle.remove)
        yield


def _move(module: nn.Module, inputs: tuple[Tensor], chosen: list[int], position: int) -> Tensor:
    hidden = inputs[0].clone()  # (B, T, width)
    largest = hidden[..., chosen].amax(1)
    hidden[..., chosen] = 0
    hidden[:, position, chosen] = largest
    return hidden


@torch.no_grad()
def find_register_neurons(
    tower: Any, images: Tensor, count: int = 10, top_block: int | None = None, share: float = 0.02
) -> dict[int, list[int]]:
    """The neurons that are most active at outlier patches, on average over images (Algorithm 1 of the paper).

    Outliers are the patches of the largest norm after the last block. The paper uses a threshold of the norm, which
    differs from tower to tower.

    Args:
        tower: The image tower, in evaluation mode.
        images: Normalized images (B, 3, H, W), some dozens.
        count: How many neurons. Defaults to 10.
        top_block: The last block whose neurons count. Defaults to the block at three quarters of the depth.
        share: Share of an image's patches that are outliers, at least one. Defaults to 0.02.

    Returns:
        Indices of neurons by index of the block, for ``read_out=dict(name=..., registers=...)``.
    """
    tokens, grid = tower.embed(images)
    blocks, x = tower.blocks(grid), tower.first_input(tokens)
    top_block = 3 * len(blocks) // 4 if top_block is None else top_block
    activations: list[Tensor] = []
    with ExitStack() as stack:
        for block in blocks[: top_block + 1]:
            handle = block.neurons_reader.register_forward_pre_hook(lambda _, inputs: activations.append(inputs[0]))
            stack.callback(handle.remove)
        for block in blocks:
            x = block(x)
    patches = grid[0] * grid[1]
    outliers = x[:, -patches:].norm(dim=-1).topk(max(1, round(share * patches)), dim=1).indices  # (B, o)
    index = outliers.unsqueeze(-1)
    means = [
        hidden[:, -patches:].abs().gather(1, index.expand(-1, -1, hidden.shape[-1])).float().mean((0, 1))
        for hidden in activations
    ]
    width = len(means[0])
    found: dict[int, list[int]] = {}
    for neuron in torch.cat(means).topk(count).indices.tolist():
        found.setdefault(neuron // width, []).append(neuron % width)
    return {block: sorted(chosen) for block, chosen in sorted(found.items())}
