"""Linear probe on cached features: MAE's recipe in seconds. mmpretrain would encode every image in each epoch."""

from typing import Any

import torch
from mmengine.dist import all_reduce_params, get_rank, get_world_size
from mmengine.optim import CosineAnnealingLR, LinearLR
from mmpretrain.engine.optimizers import LARS
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.evaluation.feature_probe import FeatureProbe, seeded_permutation
from mmmaskclip.evaluation.frozen_features import Pool
from mmmaskclip.evaluation.scores import Score
from mmmaskclip.registry import METRICS


@METRICS.register_module()
class LinearClassificationProbe(FeatureProbe):
    """Accuracy of a linear classifier trained as MaskCLIP's linear probe (supplement, section B; MAE, appendix A.1).

    The classifier is batch normalization without affine parameters and one linear layer. The optimizer is LARS without
    weight decay; as in MAE, its trust ratio does not apply to the bias. The learning rate warms up and then falls to 0
    by a cosine. One difference from ``configs/linear_probe``: features are computed once, without augmentation. With
    the same images in the same order, both give the same weights.

    In each step LARS moves the weights by ``lr / 1000`` of their norm, whatever the gradient is. It therefore needs
    some hundreds of steps; the paper's 90 epochs of ImageNet are 7,000. For a small set reduce the batch size, not
    ``lr``.

    Reported in percent, as by ``ZeroShotClassification``: ``top1``, ``top5`` (with more than 5 classes),
    ``mean_per_class`` and ``score``.

    Args:
        train_dataloader: See ``FeatureProbe``.
        metric: The metric that becomes ``score``: any of ``ZeroShotClassification`` but ``'map11'``. Defaults to
            ``'top1'``.
        epochs: Passes over the features. Defaults to 90.
        warmup_epochs: Epochs of the warm-up. Defaults to 10, as in MAE; the paper does not say.
        batch_size: Images per step, or all images if there are fewer. An incomplete last batch of an epoch is dropped.
            Defaults to 16384.
        lr: Learning rate after the warm-up. Defaults to 6.4.
        momentum: Momentum of LARS. Defaults to 0.9.
        pool: See ``FeatureProbe``.
        collect_device: How the processes exchange results, see ``RetrievalRecall``.
        prefix: Prefix of the metric names; the loop sets the task's name.

    Raises:
        ValueError: If ``metric='map11'``, or the warm-up is as long as the training.
    """

    default_prefix = 'linear'

    def __init__(
        self,
        train_dataloader: dict,
        metric: Score = 'top1',
        epochs: int = 90,
        warmup_epochs: int = 10,
        batch_size: int = 16384,
        lr: float = 6.4,
        momentum: float = 0.9,
        pool: Pool | None = None,
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(train_dataloader, metric, pool, collect_device, prefix)
        if metric == 'map11':
            raise ValueError("metric='map11' is for several classes per image: use LogisticRegressionProbe")
        if not 0 <= warmup_epochs < epochs:
            raise ValueError(f'warmup_epochs={warmup_epochs} of epochs={epochs}: the warm-up must be the shorter')
        self.recipe: dict[str, Any] = dict(
            epochs=epochs, warmup_epochs=warmup_epochs, batch_size=batch_size, lr=lr, momentum=momentum
        )

    def fit(self, features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
        """See ``fit_linear_classifier``."""
        return fit_linear_classifier(features, labels, num_classes, **self.recipe)[None]

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """See ``FeatureProbe.scores``."""
        return self.scores(results)[0]


def fit_linear_classifier(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    epochs: int,
    warmup_epochs: int,
    batch_size: int,
    lr: float,
    momentum: float,
) -> Tensor:
    """Train batch normalization and a linear layer, always from the same initial weights and in the same order.

    Collective: each process computes the gradient of its share of a batch.

    Args:
        features: (N, C) float32, the same on every process.
        labels: int64 (N,).
        num_classes: K.
        epochs: Passes over the features.
        warmup_epochs: Epochs in which the learning rate rises.
        batch_size: Features per step.
        lr: Learning rate after the warm-up.
        momentum: Momentum of LARS.

    Returns:
        float32 (K, C + 1): weights and bias for features that are not normalized; the normalization is folded in.
    """
    device = features.device
    batch_size = min(batch_size, len(features))
    steps = len(features) // batch_size
    norm = nn.BatchNorm1d(features.shape[1], affine=False, eps=1e-6).to(device)
    weight = torch.empty(num_classes, features.shape[1])
    nn.init.trunc_normal_(weight, std=0.01, generator=torch.Generator().manual_seed(0))
    weight = weight.to(device).requires_grad_()
    bias = torch.zeros(num_classes, device=device, requires_grad=True)
    groups = [dict(params=[weight]), dict(params=[bias], lars_exclude=True)]
    optimizer = LARS(groups, lr=lr, momentum=momentum)
    share = slice(get_rank(), None, get_world_size())
    warm_up, total = warmup_epochs * steps, epochs * steps
    # The Runner's own schedulers, so that every step has the learning rate of a training by config.
    cosine = CosineAnnealingLR(optimizer, T_max=total - warm_up, eta_min=0, begin=warm_up, end=total, by_epoch=False)
    schedulers: list[Any] = [cosine]
    if warm_up:
        schedulers.insert(0, LinearLR(optimizer, start_factor=1e-4, begin=0, end=warm_up, by_epoch=False))
    # The evaluation runs without gradients and maybe under autocast to bfloat16, which loses the small last steps.
    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        for epoch in range(epochs):
            order = torch.from_numpy(seeded_permutation(len(features), epoch)).to(device)
            for chosen in order[: steps * batch_size].split(batch_size):
                # Every process computes the statistics of the whole batch: they are cheap compared with the logits.
                inputs, targets = norm(features[chosen])[share], labels[chosen][share]
                loss = F.cross_entropy(F.linear(inputs, weight, bias), targets, reduction='sum') / len(chosen)
                optimizer.zero_grad()
                loss.backward()
                all_reduce_params([weight.grad, bias.grad])
                optimizer.step()
                for scheduler in schedulers:
                    scheduler.step()
    scale = (norm.running_var + norm.eps).rsqrt()
    weight = weight.detach() * scale
    return torch.cat((weight, (bias.detach() - weight @ norm.running_mean)[:, None]), dim=1)
