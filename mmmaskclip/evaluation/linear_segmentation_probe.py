"""Linear segmentation on frozen patches, as a metric. mmseg can only train such a head in a separate run."""

import math
from collections.abc import Sequence, Sized
from typing import Any, cast

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from mmmaskclip.evaluation.finite import check_finite
from mmmaskclip.evaluation.frozen_features import build_train_loader, check_size, gather_in_order, patch_features
from mmmaskclip.evaluation.pixel_counts import class_masks, count_pixels, iou_metrics
from mmmaskclip.models.backbones.read_outs import ReadOut, find_read_out
from mmmaskclip.registry import METRICS


@METRICS.register_module()
class LinearSegmentationProbe(BaseMetric):
    """mIoU of a linear classifier on the patches of the frozen image tower.

    As in DINOv2's linear segmentation, one linear layer classifies standardized patches, and the logits are upsampled
    to the mask. The training differs from DINOv2's, so that it is short enough for a validation. Patches are encoded
    once, without augmentation. The target of a patch is the share of each class among its pixels, so training upsamples
    nothing. Training starts from zero weights with fixed batches: the same model gives the same result. Compare the
    numbers between models under this probe, not with DINOv2's, which come from 40,000 iterations.

    Reported in percent: ``mIoU``, ``mAcc`` and ``aAcc`` as mmseg's ``IoUMetric`` defines them. During the training the
    patches and targets of the whole training split stay on the model's device, as float16: 110 MB for CamVid's 367
    images at 224 with patch 16 and 768 channels.

    Args:
        train_dataloader: Config of a loader of the training split, with the transforms of the test split (the whole
            image in one size, no crop): ``dataset`` (samples with ``image`` and ``mask``), ``batch_size`` and
            optionally ``num_workers``; no sampler.
        num_classes: Number of classes; they are the mask values 0 to ``num_classes - 1``.
        ignore_index: Mask value of pixels that are not counted. Defaults to 255.
        steps: Steps of AdamW. The learning rate falls to 0 by a cosine. Defaults to 1000.
        batch_size: Patches per step. Defaults to 4096.
        lr: Learning rate of the first step. Defaults to 0.01.
        weight_decay: Weight decay. Defaults to 1e-4, as in DINOv2.
        read_out: See :meth:`~mmmaskclip.models.backbones.CLIPVisionTransformer.dense`. Defaults to ``'patch'``.
        collect_device: How the processes exchange results, see ``RetrievalRecall``.
        prefix: Prefix of the metric names; the loop sets the task's name.
    """

    default_prefix = 'linear_segmentation'
    needs_predictions = False

    def __init__(
        self,
        train_dataloader: dict,
        num_classes: int,
        ignore_index: int = 255,
        steps: int = 1000,
        batch_size: int = 4096,
        lr: float = 0.01,
        weight_decay: float = 1e-4,
        read_out: ReadOut = 'patch',
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        find_read_out(read_out)
        self.read_out = read_out
        self.train_dataloader = train_dataloader
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.budget: dict[str, Any] = dict(steps=steps, batch_size=batch_size, lr=lr, weight_decay=weight_decay)
        self.model: nn.Module | None = None
        self.head: Tensor | None = None
        self._loader: DataLoader | None = None

    def check_data(self, dataset: Any) -> None:
        """Open the training split, and compare the number of classes with the names that the data set states, if any.

        Args:
            dataset: Not used: the loop has set ``dataset_meta``.

        Raises:
            ValueError: If ``num_classes`` is not the number of names.
        """
        named = (self.dataset_meta or {}).get('classes')
        if named is not None and len(named) != self.num_classes:
            raise ValueError(
                f'num_classes={self.num_classes}, but the data set has {len(named)} classes: {", ".join(named[:5])}, '
                '...: correct num_classes of the probe'
            )
        self._loader = build_train_loader(self.train_dataloader)

    def prepare(self, model: nn.Module) -> None:
        """Train the classifier on the training split.

        Args:
            model: See ``patch_features``; in evaluation mode. It is not changed.

        Raises:
            ValueError: If images differ in size, or a mask holds a value that is neither a class nor ignored.
        """
        if self._loader is None:
            self._loader = build_train_loader(self.train_dataloader)
        self.model = model
        patches, shares = [], []
        batch: dict = {}
        for batch in self._loader:
            features = patch_features(model, batch, self.read_out)
            check_finite(features, batch.get('key', range(len(features))))
            patches.append(features.flatten(1, 2).half())
            if patches[-1].shape[1:] != patches[0].shape[1:]:
                raise ValueError(
                    f'training images with {patches[0].shape[1]} and with {patches[-1].shape[1]} patches: give '
                    'torchvision/Resize a height and a width'
                )
            masks = class_masks(batch, self.num_classes, self.ignore_index)
            shares.append(class_shares(masks, features.shape[1:3], self.num_classes).to(features.device).half())
        self.train_size = tuple(batch['image'].shape[-2:])
        total = len(cast(Sized, self._loader.dataset))
        self.head = fit_linear_head(
            gather_in_order(torch.cat(patches), total).flatten(0, 1),
            gather_in_order(torch.cat(shares), total).flatten(0, 1),
            **self.budget,
        )
        # All processes have trained on the same patches, but machines may round differently: take rank 0's classifier.
        broadcast(self.head)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of one batch.

        Args:
            data_batch: ``image`` uint8 (B, 3, h, w), ``mask`` uint8 (B, H, W) and optionally ``key``.
            data_samples: Not used: they would hold projected embeddings.

        Raises:
            RuntimeError: If ``prepare`` was not called.
            ValueError: If a mask holds a value that is neither a class nor ignored, or the training images had another
                size.
        """
        if self.model is None or self.head is None:
            raise RuntimeError('LinearSegmentationProbe.prepare(model) must be called before a batch is processed')
        check_size(data_batch, self.train_size)
        masks = class_masks(data_batch, self.num_classes, self.ignore_index)
        patches = patch_features(self.model, data_batch, self.read_out)
        check_finite(patches, data_batch.get('key', range(len(patches))))
        # The bias subtracts the patches' mean from the logits. In bfloat16 this difference would lose its digits.
        with torch.autocast(patches.device.type, enabled=False):
            logits = F.linear(patches, self.head[:, :-1], self.head[:, -1]).permute(0, 3, 1, 2)
        for sample, mask in zip(logits, masks, strict=True):
            predicted = F.interpolate(sample[None], size=mask.shape, mode='bilinear', align_corners=False)[0].argmax(0)
            self.results.append(count_pixels(predicted, mask, self.num_classes))

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """``mIoU``, ``mAcc`` and ``aAcc`` in percent, see :func:`~.pixel_counts.iou_metrics`.

        Args:
            results: Counts of pixels, (4, K) for each sample.
        """
        return iou_metrics(results)


def class_shares(masks: Tensor, grid: Sequence[int], num_classes: int) -> Tensor:
    """The share of each class among the pixels of each patch.

    Args:
        masks: int64 (B, H, W), values 0 to K; the last stands for pixels that do not count.
        grid: Rows h and columns w of the patches. The grid is laid over the mask, whatever the size of the mask is.
        num_classes: K.

    Returns:
        float32 (B, h * w, K). A patch's shares add up to the share of its pixels that are not ignored.
    """
    batch, height, width = masks.shape
    rows, columns = grid
    down = torch.arange(height) * rows // height
    across = torch.arange(width) * columns // width
    patch = down[:, None] * columns + across + torch.arange(batch)[:, None, None] * rows * columns
    bins = batch * rows * columns * (num_classes + 1)
    counts = torch.bincount((patch * (num_classes + 1) + masks).flatten(), minlength=bins)
    counts = counts.view(batch, rows * columns, num_classes + 1)
    return counts[..., :-1] / counts.sum(-1, keepdim=True).clamp(min=1)


def fit_linear_head(
    patches: Tensor, shares: Tensor, steps: int, batch_size: int, lr: float, weight_decay: float
) -> Tensor:
    """Fit a linear classifier on standardized patches: AdamW on the cross entropy with soft targets.

    Args:
        patches: (N, C).
        shares: (N, K), see ``class_shares``. The sum of a patch's shares is its weight in the loss.
        steps: Number of steps. The learning rate falls to 0 by a cosine.
        batch_size: Patches per step, drawn with replacement. Every call draws the same patches.
        lr: Learning rate of the first step.
        weight_decay: Weight decay of the weights for standardized patches.

    Returns:
        float32 (K, C + 1): weights and bias for patches that are not standardized; the standardization is folded in.

    Raises:
        ValueError: If all pixels of the training masks are ignored.
    """
    seen = shares.sum(1) > 0
    if not seen.any():
        raise ValueError('no pixel of the training masks is of a class: all are ignored; check ignore_index')
    patches, shares = patches[seen], shares[seen]
    mean, std = patches.float().mean(0), patches.float().std(0, correction=0).clamp(min=1e-6)
    weight = torch.zeros(shares.shape[1], patches.shape[1], device=patches.device, requires_grad=True)
    bias = torch.zeros(shares.shape[1], device=patches.device, requires_grad=True)
    groups = [dict(params=[weight], weight_decay=weight_decay), dict(params=[bias], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    generator = torch.Generator().manual_seed(0)
    # The evaluation runs without gradients and maybe under autocast to bfloat16, which loses the small last steps.
    with torch.enable_grad(), torch.autocast(patches.device.type, enabled=False):
        for step in range(steps):
            optimizer.param_groups[0]['lr'] = optimizer.param_groups[1]['lr'] = (
                lr * (1 + math.cos(math.pi * step / steps)) / 2
            )
            chosen = torch.randint(len(patches), (batch_size,), generator=generator).to(patches.device)
            inputs, targets = (patches[chosen].float() - mean) / std, shares[chosen].float()
            log_probabilities = F.linear(inputs, weight, bias).log_softmax(1)
            loss = -(targets * log_probabilities).sum() / targets.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    weight = weight.detach() / std
    return torch.cat((weight, (bias.detach() - weight @ mean)[:, None]), dim=1)
