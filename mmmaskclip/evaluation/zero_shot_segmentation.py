"""Zero-shot segmentation: predict, for every pixel, the class whose prompts are most similar to its patch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmmaskclip.evaluation.pixel_counts import class_masks, count_pixels, iou_metrics
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
        """Count the pixels of one batch.

        Args:
            data_batch: ``image`` uint8 (B, 3, H, W), ``mask`` uint8 (B, H', W') and optionally ``key``.
            data_samples: Not used: they hold one embedding per image.

        Raises:
            RuntimeError: If ``prepare`` was not called.
            ValueError: If there is no mask, a mask holds a value that is neither a class nor ignored, or embeddings are
                not finite.
        """
        class_embeds = self.prepared()  # (K, D)
        num_classes = len(class_embeds)
        masks = class_masks(data_batch, num_classes, self.ignore_index)  # (B, H', W')
        patch_embeds, fraction = self.encode_patches(data_batch)  # (B, D, h, w)
        # One image after the other: 64 images with 150 classes would need gigabytes of pixels.
        for embeds, mask in zip(patch_embeds, masks, strict=True):
            similarity = dense_similarity(embeds[None], class_embeds)  # (1, K, h, w)
            predicted = upsample_patches(similarity, mask.shape, fraction)[0].argmax(0)
            self.results.append(count_pixels(predicted, mask, num_classes))

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """``mIoU``, ``mAcc`` and ``aAcc`` in percent, see :func:`~.pixel_counts.iou_metrics`.

        Args:
            results: Counts of pixels, (4, K) for each sample.
        """
        return iou_metrics(results)
