"""Features of the frozen image tower, before any projection: the input of all probes."""

from collections.abc import Sequence, Sized
from typing import Any, Literal, cast

import torch
from mmengine.dist import all_gather
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmmaskclip.datasets.training.collate import collate_image_text
from mmmaskclip.evaluation.converted_images import ConvertedImages
from mmmaskclip.evaluation.finite import check_finite
from mmmaskclip.models.backbones.read_outs import ReadOut
from mmmaskclip.registry import DATASETS
from mmmaskclip.startup.workers import call_in_workers, outlive_signals

Pool = Literal['mean', 'cls']


@torch.no_grad()
def pooled_features(model: nn.Module, batch: dict, pool: Pool | None = None) -> Tensor:
    """One feature per image; pools as the model's own image projection does, unless ``pool`` says otherwise.

    Args:
        model: Has ``data_preprocessor``, ``image_encoder`` and ``image_projection``, as ``ImageTextPretrainer``. If the
            projection is None, patches are averaged.
        batch: As the collate function gives it, with ``image`` uint8 (B, 3, H, W).
        pool: ``'mean'`` of the patches or ``'cls'`` token. Defaults to None: as the image projection pools.

    Returns:
        (B, C) float32, C the width of the tower.
    """
    images = normalized_images(model, batch)
    features = cast(Any, model.image_encoder).features(images)
    if pool is None:
        projection = cast(Any, model.image_projection)
        pool = 'mean' if projection is None else projection.pool
    return features.pool(pool).float()


def labelled_features(
    model: nn.Module, loader: DataLoader, pool: Pool | None = None
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Features and labels of a probe's whole training split, in its order and on every process.

    Args:
        model: See :func:`pooled_features`; in evaluation mode.
        loader: Result of :func:`build_train_loader`; its samples have ``image`` and ``label``.
        pool: See :func:`pooled_features`.

    Returns:
        Features (N, C) float32, labels int64 (N,) or (N, K), both on the model's device, and the images' height and
        width.

    Raises:
        ValueError: If samples have no label, or features are not finite.
    """
    features, labels, converted = [], [], ConvertedImages()
    batch: dict = {}
    for batch in loader:
        features.append(pooled_features(model, batch, pool))
        check_finite(features[-1], batch.get('key', range(len(features[-1]))))
        labels.append(labels_of(batch).to(features[-1].device))
        converted.add(batch)
    total = len(cast(Sized, loader.dataset))
    converted.report('Training split of a probe', total)
    size = tuple(batch['image'].shape[-2:])
    return gather_in_order(torch.cat(features), total), gather_in_order(torch.cat(labels), total), size


def labels_of(batch: dict) -> Tensor:
    """The labels of a batch, int64 (B,) or (B, K). Raises ValueError if the data set gives none."""
    if 'label' not in batch:
        raise ValueError(f'a probe needs labels, the data set gives {sorted(batch)}: set its label_key')
    return batch['label'].long()


@torch.no_grad()
def patch_features(model: nn.Module, batch: dict, read_out: ReadOut = 'patch') -> Tensor:
    """One vector per patch of every image, in rows and columns.

    Args:
        model: Has ``data_preprocessor`` and ``image_encoder``, as ``ImageTextPretrainer``.
        batch: As the collate function gives it, with ``image`` uint8 (B, 3, H, W).
        read_out: See :meth:`~mmmaskclip.models.backbones.CLIPVisionTransformer.dense`. Defaults to ``'patch'``.

    Returns:
        (B, h, w, C) float32.

    Raises:
        ValueError: If H or W is no multiple of the patch size: the patches would include padding, which has no mask.
    """
    images = normalized_images(model, batch)
    tower: Any = model.image_encoder
    patch = tower.patch_size
    sizes = tuple(images.shape[-2:])
    if any(size % step for size, step in zip(sizes, patch, strict=True)):
        raise ValueError(
            f'images of {sizes} are no multiple of the patch size {tuple(patch)}: give torchvision/Resize a height and '
            'width that are'
        )
    patches, grid = tower.dense(images, read_out)  # (B, N, C)
    return patches.unflatten(1, grid).float()


def normalized_images(model: nn.Module, batch: dict) -> Tensor:
    """The images of a batch, normalized by the model's preprocessor, on its device.

    Args:
        model: Has ``data_preprocessor`` and ``image_encoder``, as ``ImageTextPretrainer``.
        batch: With ``image`` uint8 (B, 3, H, W); its captions and masks are not used.

    Returns:
        (B, 3, H, W).

    Raises:
        AttributeError: If the model has no ``image_encoder``.
    """
    if 'image_encoder' not in dict(model.named_children()):
        raise AttributeError(f'{type(model).__name__} has no image_encoder: this metric is for ImageTextPretrainer')
    return cast(Any, model).data_preprocessor({'image': batch['image']})['image']


def build_train_loader(cfg: dict) -> DataLoader:
    """The loader of a probe's training samples. One of the processes reads each sample, once and in order.

    Args:
        cfg: ``dataset``, ``batch_size`` and optionally other arguments of a loader such as ``num_workers``; no sampler.

    Raises:
        ValueError: If there is a sampler: :func:`gather_in_order` relies on the order.
    """
    if 'sampler' in cfg:
        raise ValueError('train_dataloader of a probe has no sampler: every sample is read once, in order; remove it')
    dataset = cfg['dataset']
    loader = Runner.build_dataloader(
        dict(
            collate_fn=dict(type=collate_image_text),
            sampler=dict(type='DefaultSampler', shuffle=False),
            **{**cfg, 'dataset': DATASETS.build(dataset) if isinstance(dataset, dict) else dataset},
        ),
        seed=0,
    )
    # A signal to the whole process group must not end the workers before the run is saved.
    call_in_workers(loader, outlive_signals)
    return loader


def check_size(batch: dict, train_size: Sequence[int]) -> None:
    """Compare the image size of a test batch with that of the probe's training images.

    Args:
        batch: With ``image`` (B, 3, H, W).
        train_size: Height and width of the training images.

    Raises:
        ValueError: If they differ. Features at another scale are not comparable; the metric would only look worse.
    """
    size = tuple(batch['image'].shape[-2:])
    if size != tuple(train_size):
        raise ValueError(
            f"test images are {size}, those of the probe's train_dataloader {tuple(train_size)} (height, width): give "
            'both data sets the same transforms'
        )


def gather_in_order(rows: Tensor, total: int) -> Tensor:
    """Gather the processes' rows for the samples of :func:`build_train_loader`, in the order of the samples.

    Args:
        rows: (n, ...) of this process; n is the same on all processes. Sample i of the data set is row
            ``i // processes`` of process ``i % processes``. The last rows may be repetitions that fill up to n.
        total: Samples in the data set.

    Returns:
        (total, ...), on every process.
    """
    return torch.stack(all_gather(rows.contiguous()), dim=1).flatten(0, 1)[:total]
