"""Features of the frozen image tower, before any projection: what probes measure."""

from collections.abc import Sequence, Sized
from typing import Any, Literal, cast

import torch
from mmengine.dist import all_gather
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmmaskclip.datasets.training.collate import collate_image_text
from mmmaskclip.registry import DATASETS

Pool = Literal['mean', 'cls']


@torch.no_grad()
def pooled_features(model: nn.Module, batch: dict, pool: Pool | None = None) -> Tensor:
    """One feature per image, pooled as the model's own image projection pools unless said otherwise.

    Args:
        model: Has ``data_preprocessor``, ``image_encoder`` and ``image_projection``, as ``ImageTextPretrainer``. Where
            the projection is None, patch tokens are averaged.
        batch: As the collate function gives it, with ``image`` uint8 (B, 3, H, W).
        pool: ``'mean'`` of the patch tokens or ``'cls'`` token. Defaults to None, what the image projection does.

    Returns:
        (B, C) float32, C the width of the tower.
    """
    images = _images(model, batch)
    features = cast(Any, model.image_encoder).features(images)
    pool = pool or getattr(model.image_projection, 'pool', 'mean')
    return (features.cls if pool == 'cls' else features.patches.mean(1)).float()


def labelled_features(
    model: nn.Module, loader: DataLoader, pool: Pool | None = None
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Features and labels of a probe's whole training split, in its order and on every process.

    Args:
        model: See :func:`pooled_features`; in evaluation mode.
        loader: Of :func:`build_train_loader`; its samples have ``image`` and ``label``.
        pool: See :func:`pooled_features`.

    Returns:
        Features (N, C) float32 and labels int64 (N,) or (N, K), both on the model's device, and the images' height and
        width.

    Raises:
        ValueError: If samples have no label.
    """
    features, labels = [], []
    batch: dict = {}
    for batch in loader:
        if 'label' not in batch:
            raise ValueError(f'a probe needs labels, the data set gives {sorted(batch)}: set its label_key')
        features.append(pooled_features(model, batch, pool))
        labels.append(batch['label'].long().to(features[-1].device))
    total = len(cast(Sized, loader.dataset))
    size = tuple(batch['image'].shape[-2:])
    return gather_in_order(torch.cat(features), total), gather_in_order(torch.cat(labels), total), size


@torch.no_grad()
def patch_features(model: nn.Module, batch: dict) -> Tensor:
    """The patch tokens of every image, in rows and columns.

    Args:
        model: Has ``data_preprocessor`` and ``image_encoder``, as ``ImageTextPretrainer``.
        batch: As the collate function gives it, with ``image`` uint8 (B, 3, H, W).

    Returns:
        (B, h, w, C) float32.

    Raises:
        ValueError: If H or W is no multiple of the patch size: the mask would be wider than what the tokens saw.
    """
    images = _images(model, batch)
    tower: Any = model.image_encoder
    tokens, grid = tower.embed(images)
    patch = tower.patch_embed.projection.kernel_size
    sizes = tuple(images.shape[-2:])
    if any(size % step for size, step in zip(sizes, patch, strict=True)):
        raise ValueError(
            f'images of {sizes} are no multiple of the patch size {tuple(patch)}: give torchvision/Resize a height and '
            'width that are'
        )
    return tower.encode(tokens).patches.unflatten(1, tuple(grid)).float()


def _images(model: nn.Module, batch: dict) -> Tensor:
    if not hasattr(model, 'image_encoder'):
        raise AttributeError(f'{type(model).__name__} has no image_encoder: probes are for ImageTextPretrainer')
    # Nothing else of the batch, so that a probe works whatever captions or masks come along.
    return model.data_preprocessor({'image': batch['image']})['image']


def build_train_loader(cfg: dict) -> DataLoader:
    """The loader of a probe's training samples, each of which is read once, in order, by one of the processes.

    Args:
        cfg: ``dataset``, ``batch_size`` and, if wanted, ``num_workers`` and the like; no sampler.

    Raises:
        ValueError: If there is a sampler: :func:`gather_in_order` relies on the order.
    """
    if 'sampler' in cfg:
        raise ValueError('train_dataloader of a probe has no sampler: every sample is read once, in order; remove it')
    dataset = cfg['dataset']
    return Runner.build_dataloader(
        dict(
            collate_fn=dict(type=collate_image_text),
            sampler=dict(type='DefaultSampler', shuffle=False),
            **{**cfg, 'dataset': DATASETS.build(dataset) if isinstance(dataset, dict) else dataset},
        ),
        seed=0,
    )


def check_size(batch: dict, train_size: Sequence[int]) -> None:
    """Compares the images of a test batch with those that the probe was trained on.

    Args:
        batch: With ``image`` (B, 3, H, W).
        train_size: Height and width of the training images.

    Raises:
        ValueError: If they differ: features of another scale would pass for worse ones.
    """
    size = tuple(batch['image'].shape[-2:])
    if size != tuple(train_size):
        raise ValueError(
            f"test images are {size}, those of the probe's train_dataloader {tuple(train_size)} (height, width): give "
            'both data sets the same transforms'
        )


def gather_in_order(rows: Tensor, total: int) -> Tensor:
    """Puts what the processes computed for the samples of :func:`build_train_loader` back into the samples' order.

    Args:
        rows: (n, ...) of this process, the same n on all: sample i of the data set is row ``i // processes`` of process
            ``i % processes``, and the last ones may be repeated to fill up.
        total: Samples in the data set.

    Returns:
        (total, ...), on every process.
    """
    return torch.stack(all_gather(rows.contiguous()), dim=1).flatten(0, 1)[:total]
