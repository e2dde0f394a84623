"""Base of the classification probes: encodes images once, fits linear classifiers, computes the suites' metrics."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from mmmaskclip.evaluation.finite import check_finite
from mmmaskclip.evaluation.frozen_features import (
    Pool,
    build_train_loader,
    check_size,
    labelled_features,
    labels_of,
    pooled_features,
)
from mmmaskclip.evaluation.scores import Score, check_score, classification_scores, rank_columns


class FeatureProbe(BaseMetric):
    """A metric that fits linear classifiers on features of the frozen image tower.

    The features are computed once, without augmentation, before the projection: (N, C) float32. They stay on the
    model's device only while the classifiers are fitted. Each of several processes computes a share of the features,
    and a share of the fitting.

    Args:
        train_dataloader: Config of a loader of the training split, with the transforms of the test split: ``dataset``
            (samples with ``image`` and ``label``), ``batch_size`` and optionally ``num_workers``; no sampler.
        metric: The metric that becomes ``score``, see ``ZeroShotClassification``. Defaults to ``'top1'``.
        pool: ``'mean'`` of the patches or ``'cls'`` token. Defaults to None: as the model's projection pools.
        collect_device: How the processes exchange results, see ``RetrievalRecall``.
        prefix: Prefix of the metric names; the loop sets the task's name.
    """

    needs_predictions = False

    def __init__(
        self,
        train_dataloader: dict,
        metric: Score = 'top1',
        pool: Pool | None = None,
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if pool not in (None, 'mean', 'cls'):
            raise ValueError(f"pool={pool!r}: choose 'mean' or 'cls', or leave it out for what the projection does")
        self.train_dataloader = train_dataloader
        self.metric: Score = metric
        self.pool: Pool | None = pool
        self.model: nn.Module | None = None
        self.heads: Tensor | None = None
        self._loader: DataLoader | None = None

    @property
    def num_heads(self) -> int:
        """How many classifiers are fitted."""
        return 1

    @abstractmethod
    def fit(self, features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
        """Fit the classifiers. Called on all processes, which share the work.

        Args:
            features: (N, C) float32, the same on every process.
            labels: int64 (N,), or (N, K) of 0 and 1 for ``metric='map11'``.
            num_classes: K.

        Returns:
            float32 (``num_heads``, K, C + 1): weights and bias of each, on the features' device.
        """

    def check_data(self, dataset: Any) -> None:
        """Open the training split, so that a missing or wrong one ends the run before it has begun.

        Args:
            dataset: Not used.
        """
        self._loader = build_train_loader(self.train_dataloader)

    @torch.no_grad()
    def prepare(self, model: nn.Module) -> None:
        """Compute the features of the training split and fits on them.

        Args:
            model: See ``pooled_features``; in evaluation mode. It is not changed.

        Raises:
            ValueError: If labels are missing, if an image has several labels (or, for ``map11``, only one), or if the
                metric does not fit the number of classes.
        """
        if self._loader is None:
            self._loader = build_train_loader(self.train_dataloader)
        features, labels, self.train_size = labelled_features(model, self._loader, self.pool)
        self._check_kind(labels)
        self.num_classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
        check_score(self.metric, self.num_classes, 'the training split')
        self.model = model
        # The evaluation may run under autocast to bfloat16, which is too coarse for a fit.
        with torch.autocast(features.device.type, enabled=False):
            self.heads = self.fit(features, labels, self.num_classes)
        # Machines may round differently. From here on all processes have the classifiers of rank 0.
        broadcast(self.heads)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Classify one batch.

        Args:
            data_batch: ``image`` uint8 (B, 3, H, W), ``label`` (B,) or (B, K) for ``map11``, and optionally ``key``.
            data_samples: Not used: they would hold projected embeddings.

        Raises:
            RuntimeError: If ``prepare`` was not called.
            ValueError: If the training split has no such label, or its images had another size.
        """
        if self.model is None or self.heads is None:
            raise RuntimeError(f'{type(self).__name__}.prepare(model) must be called before a batch is processed')
        check_size(data_batch, self.train_size)
        labels = self._labels(data_batch)
        features = pooled_features(self.model, data_batch, self.pool)
        heads = self.heads.flatten(0, 1).double()
        # Logits in float64, rounded to float32 before ranking: the ranks then depend neither on the batch nor on the
        # kernel.
        with torch.autocast(features.device.type, enabled=False):
            exact = F.linear(features.double(), heads[:, :-1], heads[:, -1]).unflatten(1, (self.num_heads, -1))
        # A class without training samples, which few shots may leave, has the bias -inf: it is ranked last.
        check_finite(exact.masked_fill(exact == float('-inf'), 0), data_batch.get('key', range(len(exact))))
        if self.metric == 'map11':
            self.results.extend(zip(labels.numpy(), exact.float().cpu().numpy(), strict=True))
            return
        self.results.extend(zip(*rank_columns(exact, labels, self.metric), strict=True))  # (B, heads) ranks

    def evaluate(self, size: int) -> dict:
        """Compute the metrics as ``BaseMetric`` does, then release the model and the classifiers."""
        metrics = super().evaluate(size)
        self.model = self.heads = None
        return metrics

    def scores(self, results: list[tuple]) -> list[dict[str, float]]:
        """The suites' metrics in percent, of each classifier.

        Args:
            results: For each sample: its label and, per classifier, the label's rank, and for ``roc_auc`` also the
                margin of class 1 over class 0. For ``map11``: its labels (K,) and logits (``num_heads``, K).

        Returns:
            See ``ZeroShotClassification``.
        """
        return [
            classification_scores(
                [(label, *(column[head] for column in columns)) for label, *columns in results],
                self.metric,
                self.num_classes,
            )
            for head in range(self.num_heads)
        ]

    def _check_kind(self, labels: Tensor) -> None:
        kind = '0 or 1 for each class' if self.metric == 'map11' else 'one class'
        if labels.ndim != (2 if self.metric == 'map11' else 1):
            raise ValueError(
                f'metric={self.metric!r} needs {kind} per image, got labels of shape {tuple(labels.shape[1:])}: '
                "'map11' is for several classes per image, the other metrics for one"
            )

    def _labels(self, batch: dict) -> Tensor:
        """The labels of a test batch on the CPU, all of them classes of the training split."""
        labels = labels_of(batch).cpu()
        self._check_kind(labels)
        if labels.ndim == 2:
            if labels.shape[1] != self.num_classes:
                raise ValueError(f'test samples have {labels.shape[1]} classes, training samples {self.num_classes}')
            return labels
        for index in ((labels < 0) | (labels >= self.num_classes)).nonzero().flatten().tolist():
            key = batch['key'][index] if 'key' in batch else index
            raise ValueError(
                f'sample {key!r} has label {int(labels[index])}, but the training split has the classes 0 to '
                f'{self.num_classes - 1}: train_dataloader does not belong to this test split'
            )
        return labels


def seeded_permutation(length: int, seed: int) -> np.ndarray:
    """The numbers 0 to ``length - 1``, shuffled as mmengine's ``DefaultSampler`` does with this seed."""
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed)).numpy()
