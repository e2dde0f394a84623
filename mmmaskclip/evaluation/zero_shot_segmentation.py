"""Zero-shot segmentation: predict, for every pixel, the class whose prompts are most similar to its patch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmaskclip.evaluation.prompted_metric import DensePromptedMetric
from mmmaskclip.models.open_vocabulary.dense_similarity import dense_similarity, upsample_patches
from mmmaskclip.registry import METRICS


@METRICS.register_module()
class ZeroShotSegmentation(DensePromptedMetric):
    """Zero-shot mIoU (MaskCLIP v1, section 4: no training, no background).

    The similarities of patches with classes are upsampled to the mask (bilinear), and every pixel gets its best class.
    Reported in percent: ``mIoU``, ``mAcc`` and ``aAcc`` as mmseg's ``IoUMetric`` defines them.

    The arguments are those of :class:`DensePromptedMetric`. Pixels with the mask value ``ignore_index`` are not
    counted.
    """

    default_prefix = 'segmentation'

    @torch.no_grad()
    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Counts the pixels of one batch.

        Args:
            data_batch: ``image`` uint8 (B, 3, H, W), ``mask`` uint8 (B, H', W') and optionally ``key``.
            data_samples: Not used: they hold one embedding per image.

        Raises:
            RuntimeError: If ``prepare`` was not called.
            ValueError: If there is no mask, a mask holds a value that is neither a class nor ignored, or embeddings are
                not finite.
        """
        # A local import: mmseg takes seconds, and runs without segmentation do not need it.
        from mmseg.evaluation import IoUMetric

        class_embeds = self.prepared()  # (K, D)
        num_classes = len(class_embeds)
        masks = self._masks(data_batch, num_classes)  # (B, H', W')
        patch_embeds, fraction = self.encode_patches(data_batch)  # (B, D, h, w)
        # One image after the other: 64 images with 150 classes would need gigabytes of pixels.
        for embeds, mask in zip(patch_embeds, masks, strict=True):
            similarity = dense_similarity(embeds[None], class_embeds)  # (1, K, h, w)
            predicted = upsample_patches(similarity, mask.shape, fraction)[0].argmax(0).cpu()
            areas = IoUMetric.intersect_and_union(predicted, mask, num_classes, self.ignore_index)
            self.results.append(torch.stack(areas).numpy())

    def _masks(self, batch: dict, num_classes: int) -> Tensor:
        """int64 (B, H', W') on the CPU; every value is a class or ignored."""
        if 'mask' not in batch:
            raise ValueError(f'segmentation needs a mask for each image, the data set gives {sorted(batch)}')
        masks = batch['mask'].cpu().long()
        unknown = (masks >= num_classes) & (masks != self.ignore_index)
        if unknown.any():
            index = int(unknown.flatten(1).any(1).nonzero()[0])
            key = batch['key'][index] if 'key' in batch else index
            raise ValueError(
                f'the mask of sample {key!r} holds the value {int(masks[unknown][0])}, but there are '
                f'{num_classes} classes: the class list does not belong to this dataset'
            )
        return masks

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """IoU and accuracies in percent over all samples.

        Args:
            results: For each sample (4, C): pixels of intersection, union, prediction and ground truth per class.

        Returns:
            ``mIoU``, ``mAcc`` and ``aAcc``; a class that neither occurs nor is predicted is left out of the means.
        """
        intersect, union, _, label = np.stack(results).sum(axis=0, dtype=np.float64)
        with np.errstate(invalid='ignore'):
            return {
                'mIoU': 100 * float(np.nanmean(intersect / union)),
                'mAcc': 100 * float(np.nanmean(intersect / label)),
                'aAcc': 100 * float(intersect.sum() / label.sum()),
            }
