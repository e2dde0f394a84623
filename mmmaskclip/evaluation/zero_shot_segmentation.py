"""Zero-shot segmentation: a pixel is of the class whose prompts its patch is most similar to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn

from mmmaskclip.models.backbones.read_outs import upsample_patches
from mmmaskclip.models.open_vocabulary.class_embeddings import ClassPrompts
from mmmaskclip.registry import METRICS


def segment(
    patch_embeds: Tensor, class_embeds: Tensor, size: Sequence[int], share: Sequence[float] = (1.0, 1.0)
) -> Tensor:
    """Labels every pixel by its patch's similarity with the classes (MaskCLIP v1, Sec. 4: no training, no background).

    Args:
        patch_embeds: (D, h, w), L2-normalized.
        class_embeds: (C, D), L2-normalized.
        size: Height H and width W to which the similarities are upsampled (bilinear) before the best is taken.
        share: How much of the patches' height and width the image covers, see
            :func:`mmmaskclip.models.backbones.read_outs.image_share`. Defaults to all.

    Returns:
        int64 (H, W), class indices.
    """
    logits = torch.einsum('dhw,cd->chw', patch_embeds.float(), class_embeds.float())
    return upsample_patches(logits[None], size, share)[0].argmax(0)


@METRICS.register_module()
class ZeroShotSegmentation(BaseMetric):
    """Zero-shot mIoU from patch embeddings.

    Reported in percent: ``mIoU``, ``mAcc`` and ``aAcc`` as mmseg's ``IoUMetric`` defines them.

    Args:
        classes: Name or path of a prompt file, or the class names (or lists of synonyms) in the order of mask values.
        templates: Name or path of a prompt file, or templates. Default: those in the classes' file.
        ignore_index: Mask value that counts neither as right nor as wrong.
        collect_device: How results travel between processes, see ``RetrievalRecall``.
        prefix: Prefix of the metric names; the loop sets the task's name.
    """

    default_prefix = 'segmentation'

    def __init__(
        self,
        classes: str | Sequence[str | Sequence[str]],
        templates: str | Sequence[str] | None = None,
        ignore_index: int = 255,
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.prompts = ClassPrompts(classes, templates)
        self.ignore_index = ignore_index
        self.class_embeds: Tensor | None = None

    def prepare(self, model: nn.Module) -> None:
        """Encodes the class prompts with the model that is evaluated.

        Args:
            model: Has ``encode_text``; in evaluation mode.
        """
        self.class_embeds = self.prompts.encode(model)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Counts the pixels of one batch.

        Args:
            data_batch: Not used.
            data_samples: For each sample ``patch_embeds`` (D, h, w), L2-normalized, and ``mask`` uint8 (H, W); where
                the patches reach over the image, also ``image_share`` (2,).

        Raises:
            RuntimeError: If ``prepare`` was not called.
            ValueError: If a mask holds a value that is not that of a class.
        """
        # Here, not at the top: importing mmseg takes seconds that runs without segmentation need not wait for.
        from mmseg.evaluation import IoUMetric

        if self.class_embeds is None:
            raise RuntimeError('ZeroShotSegmentation.prepare(model) must be called before a batch is processed')
        num_classes = len(self.class_embeds)
        for sample in data_samples:
            mask = sample['mask'].long()
            unknown = mask[(mask >= num_classes) & (mask != self.ignore_index)]
            if len(unknown):
                raise ValueError(
                    f'the mask of sample {sample.get("key")!r} holds the value {int(unknown[0])}, but there are '
                    f'{num_classes} classes: the class list does not belong to this dataset'
                )
            share = sample.get('image_share', (1.0, 1.0))
            predicted = segment(sample['patch_embeds'], self.class_embeds, mask.shape, share)
            areas = IoUMetric.intersect_and_union(predicted, mask, num_classes, self.ignore_index)
            self.results.append(torch.stack(areas).numpy())

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
