"""k-nearest-neighbour classification on frozen features. mmpretrain has no k-NN metric."""

from collections.abc import Sequence, Sized
from typing import Any, cast

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from mmmaskclip.evaluation.finite import check_finite
from mmmaskclip.evaluation.frozen_features import (
    build_train_loader,
    check_size,
    labelled_features,
    labels_of,
    pooled_features,
)
from mmmaskclip.evaluation.scores import label_ranks, top_k
from mmmaskclip.registry import METRICS


@METRICS.register_module()
class KNNClassification(BaseMetric):
    """Weighted k-NN accuracy on the frozen image tower (DINO's eval_knn.py; Wu et al. 2018).

    Each of the k most similar training images votes for its class with the weight ``exp(cosine similarity /
    temperature)``. The features are taken before the projection, pooled as the model pools them (class token or mean of
    the patches), and L2-normalized. Reported in percent: ``top1`` and, with more than 5 classes, ``top5``.

    Each evaluation computes the training features again, because the model has changed since: one pass over the
    training split without gradients. They stay on the model's device: N x C float32.

    Args:
        train_dataloader: Config of a loader of the training split, with the transforms of the test split: ``dataset``
            (samples with ``image`` and ``label``), ``batch_size`` and optionally ``num_workers``; no sampler.
        k: Number of neighbours. Defaults to 20, the best in DINO.
        temperature: Temperature of the votes. Defaults to 0.07, as in DINO.
        collect_device: How the processes exchange results, see ``RetrievalRecall``.
        prefix: Prefix of the metric names; the loop sets the task's name.
    """

    default_prefix = 'knn'
    needs_predictions = False

    def __init__(
        self,
        train_dataloader: dict,
        k: int = 20,
        temperature: float = 0.07,
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.train_dataloader = train_dataloader
        self.k = k
        self.temperature = temperature
        self.model: Any = None
        self.train_features: Any = None
        self._loader: DataLoader | None = None

    def check_data(self, dataset: Any = None) -> None:
        """Open the training split, so that a missing or wrong one ends the run before it has begun.

        Args:
            dataset: Not used.

        Raises:
            ValueError: If there are fewer than k training samples.
        """
        self._loader = build_train_loader(self.train_dataloader)
        total = len(cast(Sized, self._loader.dataset))
        if total < self.k:
            raise ValueError(f'k={self.k} neighbours of {total} training samples: lower k, or check the training split')

    @torch.no_grad()
    def prepare(self, model: nn.Module) -> None:
        """Compute the features of the training split.

        Args:
            model: See ``pooled_features``; in evaluation mode.

        Raises:
            ValueError: If there are fewer than k training samples, or their labels are not one class each.
        """
        if self._loader is None:
            self.check_data()
        assert self._loader is not None
        self.model = model
        features, self.train_labels, self.train_size = labelled_features(model, self._loader)
        _check_kind(self.train_labels)
        self.train_features = F.normalize(features, dim=-1)
        self.num_classes = int(self.train_labels.max()) + 1

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Rank the right class of each sample of one batch.

        Args:
            data_batch: ``image`` uint8 (B, 3, H, W), ``label`` (B,) and optionally ``key``.
            data_samples: Not used: they would hold projected embeddings.

        Raises:
            RuntimeError: If ``prepare`` was not called.
            ValueError: If a label does not occur in the training split, or its images had another size.
        """
        if self.model is None:
            raise RuntimeError('KNNClassification.prepare(model) must be called before a batch is processed')
        check_size(data_batch, self.train_size)
        labels = labels_of(data_batch)
        _check_kind(labels)
        for index, label in enumerate(labels.tolist()):
            if not 0 <= label < self.num_classes:
                key = data_batch['key'][index] if 'key' in data_batch else index
                raise ValueError(
                    f'sample {key!r} has label {label}, but the training split has the classes 0 to '
                    f'{self.num_classes - 1}: train_dataloader does not belong to this test split'
                )
        features = F.normalize(pooled_features(self.model, data_batch), dim=-1)
        check_finite(features, data_batch.get('key', range(len(features))))
        votes = knn_votes(features, self.train_features, self.train_labels, self.k, self.temperature)
        self.results.extend(label_ranks(votes, labels).tolist())

    def evaluate(self, size: int) -> dict:
        """Compute the metrics as ``BaseMetric`` does, then release the training features: training needs the memory."""
        metrics = super().evaluate(size)
        self.model = self.train_features = None
        return metrics

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        """Accuracies in percent over all samples.

        Args:
            results: For each sample the rank of its class; 0 is first.

        Returns:
            ``top1``, and ``top5`` with more than 5 classes.
        """
        ranks = np.array(results)
        metrics = {'top1': top_k(ranks, 1)}
        if self.num_classes > 5:
            metrics['top5'] = top_k(ranks, 5)
        return metrics


def knn_votes(
    features: Tensor, train_features: Tensor, train_labels: Tensor, k: int, temperature: float, block: int = 65536
) -> Tensor:
    """Votes of the k nearest training samples. Among equally near samples, those with the lower index are taken.

    Args:
        features: (B, C), L2-normalized.
        train_features: (N, C), L2-normalized; N >= k.
        train_labels: int64 (N,).
        k: Neighbours.
        temperature: Temperature of the weights ``exp(similarity / temperature)``.
        block: Number of training samples that are held in float64 at once.

    Returns:
        float32 (B, highest label + 1).
    """
    # Scores in float64, rounded to float32: the neighbours then depend neither on the batch nor on the kernel.
    queries = features.double()
    scores = torch.cat([(queries @ part.double().T).float() for part in train_features.split(block)], dim=1)
    nearest = scores.topk(k, dim=1)
    # torch does not define which of several equal scores topk takes. So sort the few rows in which scores tie.
    choice = (scores >= nearest.values[:, -1:]).sum(1) > k
    indices = nearest.indices
    indices[choice] = scores[choice].sort(dim=1, descending=True, stable=True).indices[:, :k]
    # Similarities relative to the nearest: this changes no order and avoids overflow at a small temperature.
    weights = ((scores.gather(1, indices) - nearest.values[:, :1]).double() / temperature).exp()
    votes = weights.new_zeros(len(features), int(train_labels.max()) + 1)
    return votes.scatter_add(1, train_labels[indices], weights).float()


def _check_kind(labels: Tensor) -> None:
    if labels.ndim != 1:
        raise ValueError(
            f'k-NN needs one class for each image, got labels of shape {tuple(labels.shape[1:])}: this data set has '
            'several classes per image'
        )
