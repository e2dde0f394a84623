"""Masks of classes, and the metrics of segmentation from counted pixels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def class_masks(batch: dict, num_classes: int, ignore_index: int) -> Tensor:
    """The masks of a batch, with every ignored pixel set to ``num_classes``.

    Args:
        batch: ``mask`` (B, H, W) and optionally ``key``.
        num_classes: K; the classes are the mask values 0 to K - 1.
        ignore_index: Mask value of pixels that are not counted.

    Returns:
        int64 (B, H, W) on the CPU, with values 0 to K.

    Raises:
        ValueError: If there is no mask, or a mask holds a value that is neither a class nor ignored.
    """
    if 'mask' not in batch:
        raise ValueError(f'segmentation needs a mask for each image, the data set gives {sorted(batch)}')
    masks = batch['mask'].cpu().long()
    ignored = masks == ignore_index
    unknown = (masks >= num_classes) & ~ignored
    if unknown.any():
        index = int(unknown.flatten(1).any(1).nonzero()[0])
        key = batch['key'][index] if 'key' in batch else index
        raise ValueError(
            f'the mask of sample {key!r} holds the value {int(masks[unknown][0])}, but there are {num_classes} classes '
            f'and {ignore_index} is ignored: correct ignore_index, or the classes, which may belong to another data set'
        )
    return masks.masked_fill(ignored, num_classes)


def count_pixels(predicted: Tensor, mask: Tensor, num_classes: int) -> np.ndarray:
    """Pixels of intersection, union, prediction and ground truth of each class, (4, K), as mmseg counts them.

    Args:
        predicted: Predicted classes (H, W).
        mask: One mask (H, W) of :func:`class_masks`.
        num_classes: K.
    """
    # A local import: mmseg takes seconds, and runs without segmentation do not need it.
    from mmseg.evaluation import IoUMetric

    areas = IoUMetric.intersect_and_union(predicted.cpu(), mask, num_classes, ignore_index=num_classes)
    return torch.stack(areas).numpy()


def iou_metrics(results: Sequence[np.ndarray]) -> dict[str, float]:
    """IoU and accuracies in percent, as mmseg's ``IoUMetric`` defines them.

    Args:
        results: For each sample the result of :func:`count_pixels`.

    Returns:
        ``mIoU``, ``mAcc`` and ``aAcc``. A class that neither occurs nor is predicted is left out of the means.
    """
    intersect, union, _, label = np.stack(results).sum(axis=0, dtype=np.float64)
    with np.errstate(invalid='ignore'):
        return {
            'mIoU': 100 * float(np.nanmean(intersect / union)),
            'mAcc': 100 * float(np.nanmean(intersect / label)),
            'aAcc': 100 * float(intersect.sum() / label.sum()),
        }
