"""Random numbers that are a pure function of the sample."""

import torch
from torch import Tensor

# Uses of one sample's noise, so that they stay independent of each other.
IMAGE_MASK_STREAM, TEXT_MASK_STREAM, REGION_STREAM, SHIFT_STREAM, LOSS_STREAM = range(5)

_WORD = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9


def _mix(h: Tensor) -> Tensor:
    """MurmurHash3's 32-bit finalizer on int64 tensors holding 32-bit words."""
    h = h ^ (h >> 16)
    h = (h * 0x85EBCA6B) & _WORD
    h = h ^ (h >> 13)
    h = (h * 0xC2B2AE35) & _WORD
    return h ^ (h >> 16)


def caption_ids(tokens: Tensor) -> Tensor:
    """A number for each caption, equal for equal words, computed on the device by the hash of this file.

    Args:
        tokens: Captions (T, L), padded with zeros to whatever length.

    Returns:
        int64 (T,), not negative, 62 bits of hash: two different captions among a million are equal with a chance of
        about 1e-7.
    """
    words = tokens.long()  # (T, L)
    places = (torch.arange(1, words.shape[1] + 1, device=words.device) * _GOLDEN) & _WORD
    parts = []
    for stream in (1, 2):
        mixed = _mix(_mix((words + stream * _GOLDEN) & _WORD) ^ _mix((places + stream) & _WORD))
        parts.append(((mixed * (words != 0)).sum(dim=1) & _WORD) >> 1)
    return (parts[0] << 31) | parts[1]


def sample_noise(seeds: Tensor, count: int, stream: int) -> Tensor:
    """Uniform noise computed from each sample's seed by a counter-based hash.

    A mask drawn from it needs no generator state: it is the same after a resume, on any number of processes, and under
    gradient accumulation or recomputation, and it is computed on the device without a host round trip.

    Args:
        seeds: One non-negative seed per sample, int64 (B,).
        count: Numbers per sample.
        stream: Tells uses of the same sample apart, so that, for example, image mask and text mask are independent.

    Returns:
        float32 (B, count) in [0, 1), with 24 random bits.
    """
    base = _mix((seeds & _WORD) ^ _mix(((seeds >> 32) + (stream + 1) * _GOLDEN) & _WORD))
    counter = torch.arange(1, count + 1, device=seeds.device) * _GOLDEN
    words = _mix(_mix((base.unsqueeze(1) + counter) & _WORD) ^ base.unsqueeze(1))
    return (words >> 8).float() / 2**24
