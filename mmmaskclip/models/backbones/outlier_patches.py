"""Outlier patches, in which a ViT stores global information: how to find and repair them; means of similar patches."""

import torch
from torch import Tensor
from torch.nn import functional as F

_UNIT = 1_000_000


def local_outlier_factors(points: Tensor, neighbours: int) -> Tensor:
    """How much sparser a point lies than its neighbours (Breunig et al., "LOF", SIGMOD 2000, definitions 5 to 7).

    Args:
        points: (B, N, C).
        neighbours: k, at most N - 1 are taken.

    Returns:
        (B, N), about 1 inside of a cluster, larger for outliers.
    """
    k = min(neighbours, points.shape[1] - 1)
    distances = torch.cdist(points.float(), points.float())  # (B, N, N)
    index = torch.arange(points.shape[1], device=points.device)
    # Not in place: a graph of ONNX has no such operation.
    distances = distances.masked_fill(index[:, None] == index, torch.inf)
    near, index = distances.topk(k, dim=-1, largest=False)  # (B, N, k)
    reach = near[..., -1]  # (B, N), the k-distance
    reachability = torch.maximum(near, _at(reach, index))
    density = 1 / reachability.mean(-1).clamp(min=1e-12)  # (B, N)
    return _at(density, index).mean(-1) / density


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Values (B, N) at indices (B, N, k): (B, N, k)."""
    return values.unsqueeze(1).expand(-1, index.shape[1], -1).gather(2, index)


def _rounded_share(share: float, count: int) -> int:
    """``round(share * count)`` in integer arithmetic: in an ONNX graph the count is symbolic and has no ``round``."""
    whole = round(share * _UNIT) * count
    # Half to even, as Python rounds.
    return (whole + _UNIT // 2 - 1 + whole // _UNIT % 2) // _UNIT


def repair_outliers(patches: Tensor, grid: tuple[int, int], share: float, neighbours: int) -> Tensor:
    """Patches (B, N, C), each outlier replaced by the mean of the inliers around it."""
    number = _rounded_share(share, patches.shape[1])
    if number == 0:
        return patches
    worst = local_outlier_factors(patches, neighbours).topk(number, dim=1).indices
    bad = torch.zeros(patches.shape[:2], dtype=torch.bool, device=patches.device).scatter_(1, worst, True)
    sound = (~bad).to(patches.dtype).unsqueeze(-1)  # (B, N, 1)
    kernel = patches.new_ones(1, 1, 3, 3)

    def around(values: Tensor) -> Tensor:
        maps = values.transpose(1, 2).reshape(-1, 1, *grid)  # (B C, 1, rows, columns)
        return F.conv2d(maps, kernel, padding=1).reshape(len(values), -1, values.shape[1]).transpose(1, 2)

    weight = around(sound)
    mean = around(patches * sound) / weight.clamp(min=1)
    # An outlier among outliers stays: there is no inlier to average.
    return torch.where(bad.unsqueeze(-1) & (weight > 0), mean.to(patches.dtype), patches)


def similarity_of_patches(patches: Tensor, threshold: float) -> Tensor:
    """Cosines among patches (B, N, C), float32 (B, N, N); zero where they are below ``threshold``."""
    # Half precision would move pairs across the threshold.
    with torch.autocast(patches.device.type, enabled=False):
        seen = F.normalize(patches.float(), dim=-1)
        cosines = seen @ seen.transpose(1, 2)
    return cosines.masked_fill(cosines < threshold, 0)


def mean_of_similar(similarity: Tensor, patches: Tensor) -> Tensor:
    """For each patch the mean of all patches (B, N, C), weighted by its row of the similarities (B, N, N)."""
    weights = similarity / similarity.sum(-1, keepdim=True)
    return weights.to(patches.dtype) @ patches
