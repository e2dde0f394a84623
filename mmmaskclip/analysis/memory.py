"""Counts the memory of a training step on a GPU: parameters, gradients, optimizer, and autograd's saved tensors."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmmaskclip.analysis.random_batch import random_batch
from mmmaskclip.registry import MODELS

GB = 10**9
# Memory left for CUDA's context, and the share left usable by library workspaces and the allocator; assumptions.
_CONTEXT, _USABLE = 1 * GB, 0.9
_TOWERS = ('image_encoder', 'text_encoder')


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a training step with AdamW.

    Attributes:
        parameters: Float32 parameters and buffers, teachers included.
        gradients: Float32 gradients of the trained parameters.
        optimizer: AdamW's two moments of each trained parameter.
        constant: Bytes that autograd saves for any batch size: weights in bfloat16.
        sample: Bytes that autograd saves for each pair.
        sample_checkpointed: The same with activation checkpointing of all blocks, including the one block that is being
            computed again.
    """

    parameters: int
    gradients: int
    optimizer: int
    constant: int
    sample: int
    sample_checkpointed: int

    def total(self, batch_size: int, checkpointed: bool = False) -> int:
        """Bytes for a batch, or a micro-batch, of ``batch_size`` pairs."""
        sample = self.sample_checkpointed if checkpointed else self.sample
        return self.parameters + self.gradients + self.optimizer + self.constant + batch_size * sample

    def largest_batch(self, memory: float, checkpointed: bool = False) -> int:
        """Number of pairs that fit into a GPU of ``memory`` bytes, less a tenth and 1 GB; 0 if none fits.

        If the batch is split, this is the largest ``micro_batch_size``: the count includes the second copy of all
        gradients that micro-batches need.
        """
        sample = self.sample_checkpointed if checkpointed else self.sample
        free = _USABLE * memory - _CONTEXT - self.total(0) - self.gradients
        return max(0, math.floor(free / sample))

    def least_gpu(self) -> float:
        """Memory in bytes of the smallest GPU into which one pair fits, with activation checkpointing."""
        return (self.total(1, checkpointed=True) + self.gradients + _CONTEXT) / _USABLE


def count_memory(cfg: Config, caption_length: int = 77, bf16: bool = True) -> StepMemory:
    """Count the memory of a config's training step.

    torch's saved-tensor hooks count on a CPU what autograd saves in the forward pass. All blocks of a tower save the
    same, so it is enough to run models with one and with two blocks in each tower, on batches of one and of two pairs.

    Args:
        cfg: A pretraining config, with towers of ``layers``.
        caption_length: Tokens of every caption. Defaults to 77.
        bf16: Autocast to bfloat16. The CPU's rules of autocast differ from a GPU's in few operations. Defaults to True.
    """
    with torch.device('meta'):
        whole = MODELS.build(cfg.model)
    towers: dict[str, Any] = dict(whole.named_children())
    depths = {tower: len(towers[tower].layers) for tower in _TOWERS if tower in towers}
    parts = [*whole.parameters(), *whole.buffers()]
    trained = sum(parameter.numel() for parameter in whole.parameters() if parameter.requires_grad)
    base = _fit(whole, cfg, dict.fromkeys(depths, 1), caption_length, bf16)
    constant, sample = base
    largest, inputs = 0, 0
    for tower, depth in depths.items():
        deeper = _fit(whole, cfg, {**dict.fromkeys(depths, 1), tower: 2}, caption_length, bf16)
        block = deeper[0] - base[0], deeper[1] - base[1]
        constant += (depth - 1) * block[0]
        sample += (depth - 1) * block[1]
        if block[1]:
            # A checkpointed block keeps only its input, the residual stream.
            value = 2 if bf16 and getattr(towers[tower], 'residual_dtype', None) == 'bf16' else 4  # bytes
            inputs += depth * (value * _values(whole, tower, caption_length) - block[1])
            largest = max(largest, block[1])
    return StepMemory(
        parameters=sum(part.numel() * part.element_size() for part in parts),
        gradients=4 * trained,
        optimizer=8 * trained,
        constant=constant,
        sample=sample,
        sample_checkpointed=sample + inputs + largest,
    )


def saved_bytes(model: nn.Module, batch: dict[str, Tensor], bf16: bool) -> int:
    """Bytes that autograd saves in the forward pass of a training step, parameters left out.

    Args:
        model: The model, on a CPU.
        batch: A batch as the model's preprocessor takes it.
        bf16: Autocast to bfloat16.
    """
    own = {part.untyped_storage().data_ptr() for part in (*model.parameters(), *model.buffers())}
    # References keep the storages alive, so that no address is reused.
    seen: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            losses = model(mode='loss', **model.data_preprocessor(batch, training=True))
        sum(value for name, value in losses.items() if 'loss' in name)
    return sum(storage.nbytes() for storage in seen.values())


def _fit(whole: nn.Module, cfg: Config, depths: dict[str, int], caption_length: int, bf16: bool) -> tuple[int, int]:
    """Saved bytes for any batch size, and saved bytes per sample, with ``depths`` blocks in the towers."""
    model = copy.deepcopy(whole)
    for tower, depth in depths.items():
        getattr(model, tower).layers = getattr(model, tower).layers[:depth]
    model = model.to_empty(device='cpu').train()
    for part in (*model.parameters(), *model.buffers()):
        part.data.zero_()
    one, two = (saved_bytes(model, random_batch(cfg, size, caption_length), bf16) for size in (2, 4))
    sample = (two - one) // 2
    return one - 2 * sample, sample


def _values(whole: Any, tower: str, caption_length: int) -> int:
    """Number of values in the input of a block, for one sample."""
    if tower == 'text_encoder':
        return caption_length * whole.text_encoder.width
    height, width = (
        side // patch for side, patch in zip(whole.image_encoder.img_size, whole.image_encoder.patch_size, strict=True)
    )
    return (1 + height * width) * whole.image_encoder.embed_dims
