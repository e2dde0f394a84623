"""Zero-shot classification: an image is of the class whose prompts it is most similar to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn

from mmmaskclip.registry import METRICS

from .class_embeddings import ClassPrompts


@METRICS.register_module()
class ZeroShotClassification(BaseMetric):
    """Zero-shot accuracy (papers' protocol: SLIP's eval_zeroshot.py).

    Reported in percent: ``top1``, ``top5`` (with more than 5 classes) and ``mean_per_class``, the mean over the
    classes that occur of each one's top-1 accuracy.

    Args:
        classes: Name or path of a prompt file, or the class names (or lists of synonyms) in the order of the labels.
        templates: Name or path of a prompt file, or templates. Default: those in the classes' file.
        collect_device: How results travel between processes, see ``RetrievalRecall``.
        prefix: Prefix of the metric names; the loop sets the task's name.
    """

    default_prefix = 'classification'

    def __init__(
        self,
        classes: str | Sequence[str | Sequence[str]],
        templates: str | Sequence[str] | None = None,
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.prompts = ClassPrompts(classes, templates)
        self.class_embeds: Tensor | None = None

    def prepare(self, model: nn.Module) -> None:
        """Encodes the class prompts with the model that is evaluated.

        Args:
            model: Has ``encode_text``; in evaluation mode.
        """
        self.class_embeds = self.prompts.encode(model)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Ranks the right class of each sample of one batch.

        Args:
            data_batch: Not used.
            data_samples: For each sample ``image_embed`` (D,), L2-normalized, and ``label``.

        Raises:
            RuntimeError: If ``prepare`` was not called.
            ValueError: If a label is not that of a class.
        """
        if self.class_embeds is None:
            raise RuntimeError('ZeroShotClassification.prepare(model) must be called before a batch is processed')
        num_classes = len(self.class_embeds)
        labels = torch.stack([torch.as_tensor(sample['label']) for sample in data_samples])
        for sample, label in zip(data_samples, labels.tolist(), strict=True):
            if not 0 <= label < num_classes:
                raise ValueError(
                    f'sample {sample.get("key")!r} has label {label}, but there are {num_classes} classes: the class '
                    'list does not belong to this dataset'
                )
        labels = labels.to(self.class_embeds.device)
        images = torch.stack([sample['image_embed'] for sample in data_samples])
        # float64 rounded to float32: the order then depends neither on the batch nor on the kernel; ties go to the
        # lower index.
        scores = (images.double() @ self.class_embeds.double().T).float()
        own = scores.gather(1, labels[:, None])
        before = torch.arange(num_classes, device=scores.device) < labels[:, None]
        ranks = ((scores > own) | ((scores == own) & before)).sum(1)
        self.results.extend(zip(labels.tolist(), ranks.tolist(), strict=True))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Accuracies in percent over all samples.

        Args:
            results: For each sample its label and the rank (0 = first) that the label got.

        Returns:
            ``top1``, ``top5`` and ``mean_per_class``.
        """
        labels, ranks = np.array(results).T
        metrics = {'top1': 100 * float((ranks < 1).mean())}
        if len(self.prompts.classes) > 5:
            metrics['top5'] = 100 * float((ranks < 5).mean())
        per_class = [(ranks[labels == label] < 1).mean() for label in np.unique(labels)]
        metrics['mean_per_class'] = 100 * float(np.mean(per_class))
        return metrics
