"""The values that parts hand to each other: features, masks, similarities, pairs. The package explains the letters."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

POOLS = ('mean', 'cls')


@dataclass(frozen=True)
class ImageFeatures:
    """What an image tower returns, after its final norm.

    Attributes:
        cls: Class token, (B, C).
        patches: One vector per encoded patch, (B, N, C).
    """

    cls: Tensor
    patches: Tensor

    def pool(self, how: str) -> Tensor:
        """One vector per image, (B, C): ``'mean'`` of the patches or the ``'cls'`` token; else a ValueError."""
        return self.patches.mean(dim=1) if check_pool(how) == 'mean' else self.cls

    def detach(self) -> 'ImageFeatures':
        """The same features, cut from the graph."""
        return ImageFeatures(self.cls.detach(), self.patches.detach())


def check_pool(how: str) -> str:
    """Return ``how``, or raise ValueError if it is not in :data:`POOLS`."""
    if how not in POOLS:
        raise ValueError(f"pool={how!r}: choose 'mean' or 'cls'")
    return how


def patch_part(embeds: Tensor, dims: int | None) -> Tensor:
    """The part of global embeddings (..., D) that patches of ``dims`` numbers are compared with.

    Mostly all of it, unchanged. Where a half belongs to the class token (dino.txt, Jose et al., CVPR 2025) it is the
    last ``dims`` numbers, L2-normalized. None is for a model without such a half.
    """
    if dims is None or embeds.shape[-1] == dims:
        return embeds
    return F.normalize(embeds[..., -dims:], dim=-1)


@dataclass(frozen=True)
class Mask:
    """Which patches of each image are hidden; every image has the same number of them.

    Attributes:
        visible: Indices of the visible patches, (B, K).
        masked: Indices of the hidden patches, (B, N - K).
    """

    visible: Tensor
    masked: Tensor

    @property
    def restore(self) -> Tensor:
        """Indices (B, N) that sort (visible, masked) into patch order (MAE's ids_restore)."""
        return torch.cat((self.visible, self.masked), dim=1).argsort(dim=1)

    @property
    def hidden(self) -> Tensor:
        """Whether each patch is hidden, bool (B, N)."""
        return self.restore >= self.visible.shape[1]


@dataclass(frozen=True)
class Similarities:
    """Cosine similarities of features to codewords, kept as their two factors: at full scale they are gigabytes.

    Attributes:
        features: L2-normalized, float32 (..., D).
        codewords: L2-normalized, float32 (K, D).
    """

    features: Tensor
    codewords: Tensor

    def whole(self) -> Tensor:
        """The similarities as one tensor, float32 (..., K), also under autocast."""
        with torch.autocast(self.features.device.type, enabled=False):
            return F.linear(self.features, self.codewords)


@dataclass(frozen=True)
class Pairs:
    """Rows to contrast, of this process and of all processes. Row i of ``first`` matches row i of ``second``.

    Attributes:
        first: L2-normalized embeddings of this process, e.g. of images, (B, D).
        second: L2-normalized embeddings of their partners, e.g. of captions, (B, D).
        all_first: ``first`` of all processes in rank order, (G, D).
        all_second: ``second`` of all processes, (G, D).
        first_row: Position of this process's first row in the gathered rows.
        labels: Class of each row, int64 (B,), or K kinds of class, (B, K): rows match if they agree in one kind. A row
            with a negative class, and every row if ``labels`` is None, matches only its partner.
        all_labels: ``labels`` of all processes, (G,) or (G, K).
    """

    first: Tensor
    second: Tensor
    all_first: Tensor
    all_second: Tensor
    first_row: int = 0
    labels: Tensor | None = None
    all_labels: Tensor | None = None

    @property
    def positions(self) -> Tensor:
        """Positions of this process's rows in the gathered rows, int64 (B,)."""
        return torch.arange(self.first_row, self.first_row + len(self.first), device=self.first.device)
