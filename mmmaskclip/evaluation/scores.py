"""Ranks, and the suites' metrics that are computed from ranks. Zero-shot, k-NN and probes share them."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

Score = Literal['top1', 'mean_per_class', 'mean_top1_top5', 'roc_auc', 'map11']


def ahead(scores: Tensor, bar: Tensor, comes_first: Tensor) -> Tensor:
    """Which scores rank before ``bar``: higher ones, and equal ones where ``comes_first`` is true."""
    return (scores > bar) | ((scores == bar) & comes_first)


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Rank of the right class; 0 is first. In a tie the lower class comes first.

    So a model that gives every class the same score is right by chance, not always.

    Args:
        scores: (..., K). Compute them in float64 and round them to float32: the order then depends neither on the batch
            nor on the kernel.
        labels: int64 (...), on any device.

    Returns:
        int64 (...), on the scores' device.
    """
    labels = labels.to(scores.device).unsqueeze(-1)  # (..., 1)
    before = torch.arange(scores.shape[-1], device=scores.device) < labels
    return ahead(scores, scores.gather(-1, labels), before).sum(-1)


def top_k(ranks: np.ndarray, k: int) -> float:
    """Share of ranks (N,) that are below k, in percent."""
    return 100 * float((ranks < k).mean())


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: the share of pairs in which the positive sample is above the negative one.

    A tie counts half.

    Args:
        scores: (N,).
        positive: (N,), true or 1 for a positive sample.

    Returns:
        In [0, 1].

    Raises:
        ValueError: If there are no positive or no negative samples.
    """
    positive = positive.astype(bool)
    above, below = scores[positive], np.sort(scores[~positive])
    if not len(above) or not len(below):
        raise ValueError(
            f'ROC-AUC needs samples of both kinds; got {len(above)} positive and {len(below)} negative ones'
        )
    lower, not_higher = (np.searchsorted(below, above, side) for side in ('left', 'right'))
    return float((lower + not_higher).mean() / 2 / len(below))


def average_precision_11(scores: np.ndarray, positive: np.ndarray) -> float:
    """Average precision interpolated at the recalls 0, 0.1, .., 1 (VOC2007).

    As in ICinW's evaluator (microsoft/vision-evaluation, ``MeanAveragePrecisionNPointsEvaluator(11)``), samples of
    equal score enter the curve together, and the curve begins with precision 1 at recall 0. The first point is thus
    always 1.

    Args:
        scores: (N,).
        positive: (N,), true or 1 for a positive sample; at least one.

    Returns:
        In [0, 1].
    """
    order = np.argsort(-scores, kind='stable')
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    found = np.cumsum(positive[order])[ends]
    precision = np.append(1.0, found / (ends + 1))
    recall = np.append(0.0, found / found[-1])
    # From 1 down to 0, like that evaluator: counting up gives 0.7000000000000001, which a recall of 7 / 10 misses.
    return float(np.mean([precision[recall >= bound].max() for bound in np.linspace(1, 0, 11)]))


def check_score(metric: str, num_classes: int, classes: Any) -> None:
    """Refuse a metric that does not fit the number of classes.

    Args:
        metric: See :func:`classification_scores`.
        num_classes: K.
        classes: Name of the class list, for the message.

    Raises:
        ValueError: If ``metric`` is unknown or needs another number of classes.
    """
    if metric not in get_args(Score):
        raise ValueError(f'metric={metric!r}: choose one of {", ".join(get_args(Score))}')
    if metric == 'roc_auc' and num_classes != 2:
        raise ValueError(f"metric='roc_auc' is for 2 classes, but {classes!r} has {num_classes}: choose 'top1'")
    if metric == 'mean_top1_top5' and num_classes <= 5:
        raise ValueError(
            f"metric='mean_top1_top5' is for more than 5 classes, but {classes!r} has {num_classes}: choose 'top1'"
        )


def rank_columns(exact: Tensor, labels: Tensor, metric: Score) -> list[list]:
    """The columns that :func:`classification_scores` needs of a batch, each as a list.

    Args:
        exact: Scores (B, ..., K) in float64.
        labels: int64 (B,).
        metric: Any metric but ``'map11'``.

    Returns:
        The labels, their ranks (B, ...) and, for ``'roc_auc'``, the margins of class 1 over class 0 (B, ...).
    """
    ranks = label_ranks(exact.float(), labels.view(-1, *[1] * (exact.ndim - 2)).expand(exact.shape[:-1]))
    columns = [labels.tolist(), ranks.tolist()]
    return [*columns, (exact[..., 1] - exact[..., 0]).float().tolist()] if metric == 'roc_auc' else columns


def classification_scores(results: Sequence[tuple], metric: Score, num_classes: int) -> dict[str, float]:
    """The suites' metrics in percent over all samples (SLIP's eval_zeroshot.py, ELEVATER's ICinW).

    Args:
        results: For each sample its label and the label's rank; for ``'roc_auc'`` also the margin of class 1 over class
            0. For ``'map11'``: the sample's labels (K,) of 0 and 1, and its scores (K,).
        metric: The metric that becomes ``score``, see ``ZeroShotClassification``.
        num_classes: K.

    Returns:
        ``top1``, ``top5`` (with more than 5 classes), ``mean_per_class``, ``roc_auc`` if ``metric`` is that, and
        ``score``. With ``'map11'``: only ``map11`` and ``score``.

    Raises:
        ValueError: If one of the two classes does not occur (``'roc_auc'``), or no class occurs (``'map11'``).
    """
    if metric == 'map11':
        score = _map11(*(np.stack(column) for column in zip(*results, strict=True)))
        return {'map11': score, 'score': score}
    labels, ranks, *margins = (np.array(column) for column in zip(*results, strict=True))
    metrics = {'top1': top_k(ranks, 1)}
    if num_classes > 5:
        metrics['top5'] = top_k(ranks, 5)
    per_class = [(ranks[labels == label] < 1).mean() for label in np.unique(labels)]
    metrics['mean_per_class'] = 100 * float(np.mean(per_class))
    if metric == 'roc_auc':
        metrics['roc_auc'] = 100 * roc_auc(margins[0], labels)
    if metric == 'mean_top1_top5':
        return {**metrics, 'score': (metrics['top1'] + metrics['top5']) / 2}
    return {**metrics, 'score': metrics[metric]}


def _map11(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean in percent over the classes that occur, of labels and scores (N, K)."""
    present = np.flatnonzero(labels.sum(0))
    if not len(present):
        raise ValueError(f"metric='map11': none of the {len(labels)} samples has a class")
    return 100 * float(np.mean([average_precision_11(scores[:, index], labels[:, index]) for index in present]))
