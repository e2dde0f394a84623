"""Logistic regression on frozen features, with all training images or a few per class."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.logging import print_log
from torch import Tensor
from torch.nn import functional as F

from mmmaskclip.evaluation.feature_probe import FeatureProbe, seeded_permutation
from mmmaskclip.evaluation.frozen_features import Pool
from mmmaskclip.evaluation.logistic_regression import LogisticRegression
from mmmaskclip.evaluation.scores import Score, average_precision_11
from mmmaskclip.registry import METRICS

# C of the example in CLIP's README, for sets of which no images can be held out for the search.
FIXED_C = 0.316


@METRICS.register_module()
class LogisticRegressionProbe(FeatureProbe):
    """Logistic regression by L-BFGS on the frozen tower's features (CLIP, appendix A.3), at full data or few-shot.

    The probe searches ``C``, the inverse of scikit-learn's L2 penalty, as CLIP does. It holds out a part of the
    training images and takes the best of 1e-6, 1e-4, .., 1e6. Around the best it halves the step until there are 8
    values per decade. Then it fits all training images with the best C. CLIP uses a set's own validation split if there
    is one; this probe always holds out a part of the training split, drawn by class with a fixed seed. If no class has
    two images (1 shot), C is 0.316, as in CLIP's README. Sets with several classes per image (``metric='map11'``) get
    one binary classifier per class.

    Few-shot: the seed draws ``shots`` images of each class. With the same seed, the images of 5 shots are among those
    of 10. A class with fewer images gives all of them, and the log says so. ELEVATER uses 5, 20 and 50 shots with the
    seeds 0, 1 and 2, but draws other images.

    Reported in percent, as by ``ZeroShotClassification``: ``top1``, ``top5``, ``mean_per_class``, ``score`` and so on.
    Few-shot: ``5_shot/top1`` is the mean over the seeds, and ``5_shot/top1_std`` the sample standard deviation if there
    are several seeds. With one number of shots, ``score`` is its mean, so that the probe can be the metric of a suite.

    Args:
        train_dataloader: See ``FeatureProbe``.
        metric: The metric that becomes ``score``, see ``ZeroShotClassification``. Defaults to ``'top1'``.
        shots: Training images per class, one number or several. Defaults to None: all.
        seeds: Seeds of the draws, for each number of shots. Defaults to (0, 1, 2).
        held_out: Share of each class's training images that is held out to search C, at least one image. Defaults to
            0.2.
        max_iter: Largest number of steps of L-BFGS. Defaults to 1000, as in CLIP.
        pool: See ``FeatureProbe``.
        collect_device: How the processes exchange results, see ``RetrievalRecall``.
        prefix: Prefix of the metric names; the loop sets the task's name.

    Raises:
        ValueError: If ``shots`` or ``seeds`` is empty, a number of shots is below 1, ``held_out`` is not between 0 and
            1, or ``shots`` is set with ``metric='map11'``.
    """

    default_prefix = 'logistic'

    def __init__(
        self,
        train_dataloader: dict,
        metric: Score = 'top1',
        shots: int | Sequence[int] | None = None,
        seeds: Sequence[int] = (0, 1, 2),
        held_out: float = 0.2,
        max_iter: int = 1000,
        pool: Pool | None = None,
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(train_dataloader, metric, pool, collect_device, prefix)
        self.shots = (shots,) if isinstance(shots, int) else None if shots is None else tuple(shots)
        self.seeds = tuple(seeds)
        if self.shots is not None and (not self.shots or min(self.shots) < 1 or not self.seeds):
            raise ValueError(f'shots={shots!r} with seeds={seeds!r}: few-shot needs at least 1 shot and one seed')
        if self.shots is not None and metric == 'map11':
            raise ValueError(
                "shots with metric='map11': an image of several classes is no shot of one; leave shots out"
            )
        if not 0 < held_out < 1:
            raise ValueError(f'held_out={held_out} must be between 0 and 1: a share of the training images')
        self.held_out, self.max_iter = held_out, max_iter

    @property
    def num_heads(self) -> int:
        return 1 if self.shots is None else len(self.shots) * len(self.seeds)

    def fit(self, features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
        """Search C and fits, once for all images or once for each draw."""
        targets = labels.cpu()
        if self.shots is None:
            draws = [('all images', np.arange(len(targets)))]
        else:
            draws = [
                (f'{shots} shots, seed {seed}', draw_shots(targets.numpy(), shots, seed))
                for shots in self.shots
                for seed in self.seeds
            ]
        heads = []
        for name, chosen in draws:
            c, head = fit_logistic(features[chosen], targets[chosen], num_classes, self.held_out, self.max_iter)
            print_log(f'Logistic regression on {name} ({len(chosen)}): C = {c:.4g}', logger='current')
            heads.append(head)
        return torch.stack(heads).float()

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Metrics in percent, see the class."""
        scores = self.scores(results)
        if self.shots is None:
            return scores[0]
        metrics = {}
        for number, shots in enumerate(self.shots):
            of_seeds = scores[number * len(self.seeds) : (number + 1) * len(self.seeds)]
            for name in of_seeds[0]:
                values = [score[name] for score in of_seeds]
                metrics[f'{shots}_shot/{name}'] = float(np.mean(values))
                if len(values) > 1:
                    metrics[f'{shots}_shot/{name}_std'] = float(np.std(values, ddof=1))
        if len(self.shots) == 1:
            metrics['score'] = metrics[f'{self.shots[0]}_shot/score']
        return metrics


def draw_shots(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Ascending indices of ``shots`` samples of each class in labels (N,), or of all samples of a class with fewer."""
    chosen = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        if len(of_class) < shots:
            print_log(f'{shots} shots: class {label} has only {len(of_class)} images, all of them are taken', 'current')
        chosen.append(of_class[seeded_permutation(len(of_class), seed)[:shots]])
    return np.sort(np.concatenate(chosen))


def fit_logistic(
    features: Tensor, labels: Tensor, num_classes: int, held_out: float, max_iter: int
) -> tuple[float, Tensor]:
    """Search C on a part of the samples and fits all of them with it. Collective: all processes fit together.

    Args:
        features: (N, C), the same on every process.
        labels: int64 (N,), or (N, K) of 0 and 1, on the CPU.
        num_classes: K.
        held_out: Share of the samples that is held out for the search. With one class per sample, it is the share of
            each class.
        max_iter: Largest number of steps of L-BFGS.

    Returns:
        The best regularization C, and float64 (K, channels + 1): weights and bias. With one class per sample, a class
        that does not occur has a bias of minus infinity.
    """
    held = torch.from_numpy(_held_out(labels.numpy(), held_out))
    c = FIXED_C
    if held.any():
        fit = _regressions(features[~held], labels[~held], num_classes)
        queries, answers = features[held].double(), labels[held].numpy()

        def score(candidate: float) -> float:
            head = fit(candidate, max_iter)
            logits = F.linear(queries, head[:, :-1], head[:, -1]).cpu().numpy()
            if answers.ndim == 1:
                value = float((logits.argmax(1) == answers).mean())
            else:
                present = np.flatnonzero(answers.any(0))
                value = float(np.mean([average_precision_11(logits[:, k], answers[:, k]) for k in present]))
            # The score of rank 0: machines may round differently, and all must continue with the same C.
            shared = head.new_tensor(value)
            broadcast(shared)
            return float(shared)

        c = search_regularization(score)
    return c, _regressions(features, labels, num_classes)(c, max_iter)


def search_regularization(score: Callable[[float], float]) -> float:
    """Find C by CLIP's search (appendix A.3).

    The search begins with the best of 1e-6, 1e-4, .., 1e6. Then it compares the best with its two neighbours at half
    the distance, and so on to an eighth of a decade. Among equal scores it takes the smallest C.

    Args:
        score: Function of C; higher is better.
    """
    found = {exponent: score(10.0**exponent) for exponent in map(float, range(-6, 7, 2))}

    def best() -> float:
        return max(sorted(found), key=found.__getitem__)

    for step in (1.0, 0.5, 0.25, 0.125):
        center = best()
        for exponent in (center - step, center + step):
            if -6 <= exponent <= 6:
                found[exponent] = score(10.0**exponent)
    return 10.0 ** best()


def _held_out(labels: np.ndarray, share: float) -> np.ndarray:
    """Which samples are held out to search C, bool (N,): of each class at least one, and never all."""
    held = np.zeros(len(labels), dtype=bool)
    groups = [np.arange(len(labels))]
    if labels.ndim == 1:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for group in groups:
        if len(group) > 1:
            number = min(max(1, round(share * len(group))), len(group) - 1)
            held[group[seeded_permutation(len(group), 0)[:number]]] = True
    return held


def _regressions(features: Tensor, labels: Tensor, num_classes: int) -> Callable[[float, int], Tensor]:
    """A function of C and the number of steps that gives weights and bias (K, C + 1)."""
    empty = features.new_zeros(num_classes, features.shape[1] + 1, dtype=torch.float64)
    if labels.ndim == 2:
        # A class that all images have, or none, needs no classifier.
        columns = [k for k in range(num_classes) if 0 < int(labels[:, k].sum()) < len(labels)]
        fits = [LogisticRegression(features, labels[:, k], 2) for k in columns]

        def fit_each(c: float, max_iter: int) -> Tensor:
            head = empty.clone()
            for k, fit in zip(columns, fits, strict=True):
                head[k] = fit.fit(c, max_iter)[0]
            return head

        return fit_each
    classes, numbers = labels.unique(return_inverse=True)
    # A class without any sample is never predicted.
    empty[:, -1] = -torch.inf
    empty[classes] = 0
    together = LogisticRegression(features, numbers, len(classes)) if len(classes) > 1 else None

    def fit_together(c: float, max_iter: int) -> Tensor:
        head = empty.clone()
        if together is not None:
            rows = together.fit(c, max_iter)
            # Two classes have one row, for the logit of the second over the first.
            head[classes[-len(rows) :]] = rows
        return head

    return fit_together
