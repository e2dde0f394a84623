"""Zero-shot classification: an image is of the class whose prompts it is most similar to."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn

from mmmaskclip.evaluation.finite import check_finite
from mmmaskclip.models.open_vocabulary.class_embeddings import ClassPrompts
from mmmaskclip.registry import METRICS

Score = Literal['top1', 'mean_per_class', 'mean_top1_top5', 'roc_auc', 'map11']


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive sample is above a negative one, a tie counting half.

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

    As in ICinW's evaluator (microsoft/vision-evaluation, ``MeanAveragePrecisionNPointsEvaluator(11)``): samples of
    equal score come in together, and the curve begins with precision 1 at recall 0, so the first point is always 1.

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
    # Counted down from 1, as there: counting up gives 0.7000000000000001, which a recall of 7 / 10 does not reach.
    return float(np.mean([precision[recall >= bound].max() for bound in np.linspace(1, 0, 11)]))


@METRICS.register_module()
class ZeroShotClassification(BaseMetric):
    """Zero-shot classification under any metric of the papers' suites (SLIP's eval_zeroshot.py, ELEVATER's ICinW).

    Reported in percent. For samples of one class each: ``top1``, ``top5`` (with more than 5 classes) and
    ``mean_per_class``, the mean over the classes that occur of each one's top-1 accuracy; ``roc_auc`` where it is
    asked for. For samples of several classes (``metric='map11'``): ``map11``. And ``score``, the one that ``metric``
    names, which is the data set's number in a suite.

    Args:
        classes: Name or path of a prompt file, or the class names (or lists of synonyms) in the order of the labels.
        templates: Name or path of a prompt file, or templates. Default: those in the classes' file.
        metric: What ``score`` is. ``'top1'``; ``'mean_per_class'``; ``'mean_top1_top5'``, (top1 + top5) / 2 (SLIP for
            Kinetics-700); ``'roc_auc'`` of the similarity with class 1 less that with class 0 (Hateful Memes);
            ``'map11'``, the mean over the classes of ``average_precision_11`` of their probabilities, softmax(100
            cosine) over the classes as in ICinW (VOC2007). Defaults to ``'top1'``.
        collect_device: How results travel between processes, see ``RetrievalRecall``.
        prefix: Prefix of the metric names; the loop sets the task's name.

    Raises:
        ValueError: If ``metric`` is unknown or does not go with the number of classes.
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
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.prompts = ClassPrompts(classes, templates)
        self.metric = metric
        num_classes = len(self.prompts.classes)
        if metric not in get_args(Score):
            raise ValueError(f'metric={metric!r}: choose one of {", ".join(get_args(Score))}')
        if metric == 'roc_auc' and num_classes != 2:
            raise ValueError(f"metric='roc_auc' is for 2 classes, but {classes!r} has {num_classes}: choose 'top1'")
        if metric == 'mean_top1_top5' and num_classes <= 5:
            raise ValueError(
                f"metric='mean_top1_top5' is for more than 5 classes, but {classes!r} has {num_classes}: choose 'top1'"
            )
        self.class_embeds: Tensor | None = None

    def prepare(self, model: nn.Module) -> None:
        """Encodes the class prompts with the model that is evaluated.

        Args:
            model: Has ``encode_text``; in evaluation mode.

        Raises:
            ValueError: If the data set names its classes (the loop tells the metric), and they are of another number or
                in another order than those of this metric.
        """
        self._check_classes()
        self.class_embeds = self.prompts.encode(model)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Compares the samples of one batch with the classes.

        Args:
            data_batch: Not used.
            data_samples: For each sample ``image_embed`` (D,), L2-normalized, and ``label``: the index of its class,
                or for ``map11`` (C,) with 1 for each of its classes and 0 for the others.

        Raises:
            RuntimeError: If ``prepare`` was not called.
            ValueError: If a label does not fit the classes, or similarities are not finite.
        """
        if self.class_embeds is None:
            raise RuntimeError('ZeroShotClassification.prepare(model) must be called before a batch is processed')
        labels = self._labels(data_samples, len(self.class_embeds))
        images = torch.stack([sample['image_embed'] for sample in data_samples])
        # float64 rounded to float32: the order then depends neither on the batch nor on the kernel; ties go to the
        # lower index.
        exact = images.double() @ self.class_embeds.double().T
        check_finite(exact, [sample.get('key') for sample in data_samples])
        if self.metric == 'map11':
            # The logarithm, because small probabilities would all round to 0; its order is the same.
            logs = (100 * exact).log_softmax(-1).float().cpu()
            self.results.extend(zip(labels.numpy(), logs.numpy(), strict=True))
            return
        labels = labels.to(exact.device)
        scores = exact.float()
        own = scores.gather(1, labels[:, None])
        before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
        ranks = ((scores > own) | ((scores == own) & before)).sum(1)
        columns = [labels.tolist(), ranks.tolist()]
        if self.metric == 'roc_auc':
            columns.append((exact[:, 1] - exact[:, 0]).float().tolist())
        self.results.extend(zip(*columns, strict=True))

    def _check_classes(self) -> None:
        named = (self.dataset_meta or {}).get('classes')
        if named is None:
            return
        own = [names[0] for names in self.prompts.classes]
        if len(named) != len(own):
            raise ValueError(
                f'the data set has {len(named)} classes ({", ".join(map(str, named[:3]))}, ...), this metric has '
                f'{len(own)} ({", ".join(own[:3])}, ...): give both the same class list'
            )
        # Only where they are the same names: data sets often have others for the same classes.
        if sorted(map(str, named)) == sorted(own) and list(map(str, named)) != own:
            index = next(index for index, name in enumerate(own) if str(named[index]) != name)
            raise ValueError(
                f'class {index} is {named[index]!r} in the data set and {own[index]!r} in this metric: give both their '
                'classes in the same order'
            )

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
            results: For each sample its label and the rank (0 = first) that the label got, for ``roc_auc`` also how
                much closer it is to class 1 than to class 0; for ``map11`` its labels (C,) and scores (C,).

        Returns:
            See the class.

        Raises:
            ValueError: If for ``roc_auc`` one of the classes does not occur, for ``map11`` none does.
        """
        if self.metric == 'map11':
            score = _map11(*(np.stack(column) for column in zip(*results, strict=True)))
            return {'map11': score, 'score': score}
        labels, ranks, *margins = (np.array(column) for column in zip(*results, strict=True))
        metrics = {'top1': 100 * float((ranks < 1).mean())}
        if len(self.prompts.classes) > 5:
            metrics['top5'] = 100 * float((ranks < 5).mean())
        per_class = [(ranks[labels == label] < 1).mean() for label in np.unique(labels)]
        metrics['mean_per_class'] = 100 * float(np.mean(per_class))
        if self.metric == 'roc_auc':
            metrics['roc_auc'] = 100 * roc_auc(margins[0], labels)
        if self.metric == 'mean_top1_top5':
            return {**metrics, 'score': (metrics['top1'] + metrics['top5']) / 2}
        return {**metrics, 'score': metrics[self.metric]}


def _map11(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean in percent over the classes that occur, of labels and scores (N, C)."""
    present = np.flatnonzero(labels.sum(0))
    if not len(present):
        raise ValueError(f"metric='map11': none of the {len(labels)} samples has a class")
    return 100 * float(np.mean([average_precision_11(scores[:, index], labels[:, index]) for index in present]))
