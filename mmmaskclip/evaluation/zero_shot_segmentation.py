"""Zero-shot segmentation: a pixel is of the class whose prompts its patch is most similar to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn

from mmmaskclip.datasets.prompts import ClassPrompts
from mmmaskclip.evaluation.finite import check_finite
from mmmaskclip.evaluation.frozen_features import normalized_images
from mmmaskclip.models.backbones.read_outs import ReadOut, find_read_out
from mmmaskclip.models.open_vocabulary.class_embeddings import encode_classes
from mmmaskclip.models.open_vocabulary.dense_similarity import dense_similarity, upsample_patches
from mmmaskclip.registry import METRICS


@METRICS.register_module()
class ZeroShotSegmentation(BaseMetric):
    """Zero-shot mIoU (MaskCLIP v1, section 4: no training, no background).

    Similarities of patches with the classes are upsampled to the mask (bilinear), then every pixel takes its best
    class. Reported in percent: ``mIoU``, ``mAcc`` and ``aAcc`` as mmseg's ``IoUMetric`` defines them.

    Args:
        classes: Name or path of a prompt file, or the class names (or lists of synonyms) in the order of mask values.
        templates: Name or path of a prompt file, or templates. Default: those in the classes' file.
        read_out: See :meth:`~mmmaskclip.models.backbones.CLIPVisionTransformer.dense`. Defaults to ``'patch'``.
        ignore_index: Mask value that counts neither as right nor as wrong. Defaults to 255.
        collect_device: How results travel between processes, see ``RetrievalRecall``.
        prefix: Prefix of the metric names; the loop sets the task's name.

    Raises:
        ValueError: If ``read_out`` or one of its options is unknown.
    """

    default_prefix = 'segmentation'
    needs_predictions = False

    def __init__(
        self,
        classes: str | Sequence[str | Sequence[str]],
        templates: str | Sequence[str] | None = None,
        read_out: ReadOut = 'patch',
        ignore_index: int = 255,
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.prompts = ClassPrompts(classes, templates)
        find_read_out(read_out)
        self.read_out = read_out
        self.ignore_index = ignore_index
        self.model: Any = None
        self.class_embeds: Tensor | None = None

    def prepare(self, model: nn.Module) -> None:
        """Encodes the class prompts with the model that is evaluated.

        Args:
            model: Has ``encode_text``, ``encode_dense``, ``image_encoder`` and ``data_preprocessor``, as
                ``ImageTextPretrainer``; in evaluation mode.
        """
        self.model = model
        self.class_embeds = encode_classes(model, self.prompts.classes, self.prompts.templates)

    @torch.no_grad()
    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Counts the pixels of one batch.

        Args:
            data_batch: ``image`` uint8 (B, 3, H, W), ``mask`` uint8 (B, H', W') and, if there is, ``key``.
            data_samples: Not used: they hold one embedding per image.

        Raises:
            RuntimeError: If ``prepare`` was not called.
            ValueError: If there is no mask, a mask holds a value that is not that of a class, or embeddings are not
                finite.
        """
        # Here, not at the top: importing mmseg takes seconds that runs without segmentation need not wait for.
        from mmseg.evaluation import IoUMetric

        if self.class_embeds is None:
            raise RuntimeError('ZeroShotSegmentation.prepare(model) must be called before a batch is processed')
        num_classes = len(self.class_embeds)
        masks = self._masks(data_batch, num_classes)
        images = normalized_images(self.model, data_batch)
        patch_embeds = self.model.encode_dense(images, self.read_out)  # (B, D, h, w)
        check_finite(patch_embeds, data_batch.get('key', range(len(masks))))
        fraction = self.model.image_encoder.unpadded_fraction(images.shape[2:])
        # One image after the other: 64 images with 150 classes would need gigabytes of pixels.
        for embeds, mask in zip(patch_embeds, masks, strict=True):
            similarity = dense_similarity(embeds[None], self.class_embeds)  # (1, K, h, w)
            predicted = upsample_patches(similarity, mask.shape, fraction)[0].argmax(0).cpu()
            areas = IoUMetric.intersect_and_union(predicted, mask, num_classes, self.ignore_index)
            self.results.append(torch.stack(areas).numpy())

    def evaluate(self, size: int) -> dict:
        """BaseMetric's; then releases the model."""
        metrics = super().evaluate(size)
        self.model = None
        return metrics

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
