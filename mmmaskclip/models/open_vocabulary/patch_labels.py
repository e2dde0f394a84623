"""The word of every patch: what a first pass of a segmentation says to a second one."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmmaskclip.models.backbones.last_block import Grid
from mmmaskclip.models.backbones.semantic_feedback import SemanticFeedback
from mmmaskclip.models.open_vocabulary.dense_similarity import dense_similarity
from mmmaskclip.models.open_vocabulary.pamr import pamr


def label_patches(
    model: Any, images: Tensor, words: Tensor, settings: SemanticFeedback, patches: Tensor, grid: Grid
) -> Tensor:
    """The word that most pixels of a patch are most similar to (ResCLIP's segmentation, Yang et al., CVPR 2025).

    Args:
        model: The pretrainer whose tower gave the patches.
        images: Normalized images (B, 3, H, W).
        words: Embeddings (K, D) of the words.
        settings: ``threshold``, ``scale`` and ``refinement``.
        patches: (B, N, C), before the tower's final norm.
        grid: Rows and columns.

    Returns:
        int64 (B, N); 0, the first word, where none reaches the threshold.
    """
    embeds = model.unit(model.image_projection.dense(model.image_encoder.finish(patches)))  # (B, N, D)
    cosines = dense_similarity(embeds.transpose(1, 2).unflatten(2, grid), words)  # (B, K, h, w)
    height, width = model.image_encoder.patch_size
    size = (grid[0] * height, grid[1] * width)
    maps = F.interpolate(cosines, size=size, mode='bilinear', align_corners=False)
    if settings.refinement is not None:
        padded = F.pad(images, (0, size[1] - images.shape[3], 0, size[0] - images.shape[2]))
        maps = pamr(padded, maps, **settings.refinement)
    best, labels = (settings.scale * maps).softmax(dim=1).max(dim=1)  # (B, H, W)
    labels = labels.masked_fill(best < settings.threshold, 0)
    pixels = labels.unflatten(2, (grid[1], width)).unflatten(1, (grid[0], height))  # (B, h, p, w, p)
    return torch.mode(pixels.transpose(2, 3).flatten(3), dim=-1).values.flatten(1)
