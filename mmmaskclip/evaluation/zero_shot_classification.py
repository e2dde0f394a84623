"""Zero-shot classification: predict the class whose prompts are most similar to the image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmmaskclip.evaluation.finite import check_finite
from mmmaskclip.evaluation.prompted_metric import PromptedMetric
from mmmaskclip.evaluation.scores import Score, check_score, classification_scores, rank_columns
from mmmaskclip.registry import METRICS


@METRICS.register_module()
class ZeroShotClassification(PromptedMetric):
    """Zero-shot classification under any metric of the papers' suites (SLIP's eval_zeroshot.py, ELEVATER's ICinW).

    Reported in percent. If samples have one class each: ``top1``, ``top5`` (with more than 5 classes),
    ``mean_per_class``, and ``roc_auc`` if ``metric`` is that. ``mean_per_class`` is the mean of the classes' top-1
    accuracies, over the classes that occur. If samples have several classes (``metric='map11'``): ``map11``. In both
    cases ``score`` repeats the metric that ``metric`` names. A suite takes ``score`` as the result of the data set.

    Args:
        classes: Name or path of a prompt file, or the class names (or lists of synonyms) in the order of the labels.
        templates: Name or path of a prompt file, or templates. Default: those in the classes' file.
        metric: The metric that becomes ``score``, ``'top1'`` by default:

            * ``'top1'`` or ``'mean_per_class'``;
            * ``'mean_top1_top5'``: (top1 + top5) / 2 (SLIP for Kinetics-700);
            * ``'roc_auc'`` of the similarity with class 1 minus the similarity with class 0 (Hateful Memes);
            * ``'map11'``: the mean over the classes of ``average_precision_11`` of their probabilities, which are
              softmax(100 cosine) as in ICinW (VOC2007).
        collect_device: How the processes exchange results, see ``RetrievalRecall``.
        prefix: Prefix of the metric names; the loop sets the task's name.

    Raises:
        ValueError: If ``metric`` is unknown or does not fit the number of classes.
    """

    default_prefix = 'classification'

    def __init__(
        self,
        classes: str | Sequence[str | Sequence[str]],
        templates: str | Sequence[str] | None = None,
        metric: Score = 'top1',
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(classes, templates, collect_device, prefix)
        self.metric: Score = metric
        check_score(metric, len(self.prompts.classes), classes)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Compare the samples of one batch with the classes.

        Args:
            data_batch: Not used.
            data_samples: For each sample ``image_embed`` (D,), L2-normalized, and ``label``: the index of its class,
                or for ``map11`` (C,) with 1 for each of its classes and 0 for the others.

        Raises:
            RuntimeError: If ``prepare`` was not called.
            ValueError: If a label does not fit the classes, or similarities are not finite.
        """
        class_embeds = self.prepared()  # (K, D)
        labels = self._labels(data_samples, len(class_embeds))
        images = torch.stack([sample['image_embed'] for sample in data_samples])
        # Scores in float64, rounded to float32 before ranking: the ranks then depend neither on the batch nor on the
        # kernel.
        exact = images.double() @ class_embeds.double().T  # (B, K)
        check_finite(exact, [sample.get('key') for sample in data_samples])
        if self.metric == 'map11':
            # Logarithms of the probabilities: they have the same order, and small ones do not all round to 0.
            logs = (100 * exact).log_softmax(-1).float().cpu()
            self.results.extend(zip(labels.numpy(), logs.numpy(), strict=True))
            return
        self.results.extend(zip(*rank_columns(exact, labels, self.metric), strict=True))

    def _labels(self, samples: Sequence[dict], num_classes: int) -> Tensor:
        """The labels of a batch, (B,), or (B, C) of 0 and 1 for ``map11``; on the CPU."""
        labels = [torch.as_tensor(sample['label']) for sample in samples]
        shape = (num_classes,) if self.metric == 'map11' else ()
        for sample, label in zip(samples, labels, strict=True):
            if label.shape != shape:
                kind = '0 or 1 for each class' if shape else 'the index of one class'
                raise ValueError(
                    f'sample {sample.get("key")!r} has a label of shape {tuple(label.shape)}, but '
                    f'metric={self.metric!r} with {num_classes} classes needs {kind}, of shape {shape}'
                )
        stacked = torch.stack(labels).cpu()
        wrong = ((stacked < 0) | (stacked >= (2 if shape else num_classes))).flatten(1 if shape else 0)
        for index in (wrong.any(1) if shape else wrong).nonzero().flatten().tolist():
            found = stacked[index].tolist()
            what = 'only 0 and 1 mean anything' if shape else f'there are {num_classes} classes'
            raise ValueError(
                f'sample {samples[index].get("key")!r} has label {found}, but {what}: the class list does not belong '
                'to this dataset'
            )
        return stacked

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """The metrics in percent over all samples.

        Args:
            results: See :func:`~mmmaskclip.evaluation.scores.classification_scores`.
        """
        return classification_scores(results, self.metric, len(self.prompts.classes))
