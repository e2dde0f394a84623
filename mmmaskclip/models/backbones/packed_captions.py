"""Captions packed end to end, without padding: positions of their words, and attention within each caption."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def _find_varlen() -> Any:
    """torch's variable-length attention; None before torch 2.11, the first to express causality by a window."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if 'window_size' in inspect.signature(varlen_attn).parameters else None


varlen_attn = _find_varlen()


@dataclass
class Packing:
    """Where the words of some captions stand, packed end to end.

    Attributes:
        places: Row of each word among the padded ones, int64 (P,).
        after: Row, among the packed words, after the end of each caption, int64 (T,).
        attention: What :meth:`~.transformer_block.CausalBlock.forward` takes besides the words.
    """

    places: Tensor
    after: Tensor
    attention: tuple[Tensor | None, Tensor | None, int, int]

    @classmethod
    def of(cls, words: Tensor, ends: list[int], longest: int) -> Packing:
        """The packing of padded words (T, L, C).

        Args:
            words: The words.
            ends: Position of each caption's end, on the host, so that it need not wait for the device.
            longest: Largest number of words of a caption.
        """
        captions, length = words.shape[:2]
        total = sum(ends) + captions
        # The device computes all else. The number of words comes from the host, which would otherwise wait for it.
        lengths = torch.tensor(ends).to(words.device, non_blocking=True) + 1
        after = lengths.cumsum(0)
        caption = torch.arange(captions, device=words.device).repeat_interleave(lengths, output_size=total)
        places = caption * length + torch.arange(total, device=words.device) - (after - lengths)[caption]
        if has_varlen(words):
            return cls(places, after, (None, F.pad(after, (1, 0)).int(), captions, longest))
        return cls(places, after, (places, None, captions, length))

    def rows(self, captions: Tensor, positions: Tensor) -> Tensor:
        """Rows, among the packed words, of H positions in captions, (H,) each."""
        begins = F.pad(self.after, (1, 0))
        return begins[captions] + positions


def has_varlen(words: Tensor) -> bool:
    """Whether torch has attention without padding for words on this device, in the precision of the autocast.

    It is torch's FlashAttention: for bfloat16 and float16, on NVIDIA GPUs since Ampere.
    """
    if varlen_attn is None or not words.is_cuda or torch.cuda.get_device_capability(words.device) < (8, 0):
        return False
    dtype = torch.get_autocast_dtype('cuda') if torch.is_autocast_enabled('cuda') else words.dtype
    return dtype in (torch.bfloat16, torch.float16)


def attend_packed(
    qkv: Tensor,
    num_heads: int,
    places: Tensor | None,
    offsets: Tensor | None,
    captions: int,
    length: int,
    causal: bool,
    dropout: float = 0.0,
) -> Tensor:
    """Attention within each of some captions that are packed end to end.

    Args:
        qkv: Joint projection of the P words of all captions, (P, 3 C).
        num_heads: Heads.
        places: As in :meth:`~.transformer_block.CausalBlock.forward`; either this or ``offsets`` is given.
        offsets: As there.
        captions: As there.
        length: As there.
        causal: Whether a word sees earlier words only.
        dropout: Share of attention weights to drop.

    Returns:
        (P, C).

    Raises:
        ValueError: If attention without padding, which has no dropout, is to drop weights.
    """
    width = qkv.shape[-1] // 3
    if offsets is not None:
        if dropout:
            raise ValueError(
                f'attention of packed captions drops no weights on this GPU, and attn_drop is {dropout}: set '
                'it to 0, or text_encoder.packed=False'
            )
        q, k, v = (part.unflatten(-1, (num_heads, -1)) for part in qkv.split(width, dim=-1))  # (P, H, D) each
        # (-1, 0) is causal, (-1, -1) unrestricted.
        window = (-1, 0 if causal else -1)
        return varlen_attn(q, k, v, offsets, offsets, length, length, window_size=window).flatten(1)
    assert places is not None
    padded = qkv.new_zeros(captions * length, 3 * width).index_copy(0, places, qkv).unflatten(0, (captions, length))
    q, k, v = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in padded.split(width, dim=-1))
    seen = None
    if not causal:
        seen = torch.zeros(captions * length, dtype=torch.bool, device=qkv.device).index_fill(0, places, True)
        seen = seen.view(captions, 1, 1, length)
    attended = F.scaled_dot_product_attention(q, k, v, seen, dropout, is_causal=causal)  # (T, H, L, D)
    return attended.transpose(1, 2).flatten(2).flatten(0, 1)[places]
