"""Stacks image-text samples into a batch, in the loader's worker, so that one pinned transfer moves the batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmmaskclip.datasets.transforms.tokenize import pad_tokens
from mmmaskclip.registry import FUNCTIONS


@FUNCTIONS.register_module()
def collate_image_text(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make one batch of B samples of this package's datasets.

    Args:
        samples: B dicts with the same keys. Known keys are ``tokens`` (int32 tensor (L,), or a list of them when a
            sample has several captions), ``seed`` and ``label`` (ints), ``key`` (str), ``skipped`` (list of dicts).
            Every other key holds a tensor of one shape for all samples: images and masks.

    Returns:
        dict: ``tokens`` int32 (B, L), or (T, L) with ``num_captions`` int64 (B,) when samples have lists of captions,
        zeros after the end of a caption, L = longest caption of the batch; ``seed`` and ``label`` int64 (B,); ``key``
        list of B strings; ``skipped`` one flat list; every other key stacked along a new first dimension.
    """
    batch: dict[str, Any] = {}
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        if name == 'tokens':
            batch.update(_collate_tokens(values))
        elif name == 'skipped':
            batch[name] = [bad for value in values for bad in value]
        elif isinstance(first, Tensor):
            batch[name] = _stack(name, values, samples)
        elif isinstance(first, int):
            batch[name] = torch.tensor(values, dtype=torch.int64)
        else:
            batch[name] = values
    return batch


def _collate_tokens(values: list[Any]) -> dict[str, Tensor]:
    if isinstance(values[0], Tensor):
        return {'tokens': pad_tokens(values)}
    flat = [tokens for captions in values for tokens in captions]
    return {
        'tokens': pad_tokens(flat) if flat else torch.zeros(0, 0, dtype=torch.int32),
        'num_captions': torch.tensor([len(captions) for captions in values], dtype=torch.int64),
    }


def _stack(name: str, values: list[Tensor], samples: Sequence[dict[str, Any]]) -> Tensor:
    shapes = {tuple(value.shape): index for index, value in enumerate(values)}
    if len(shapes) > 1:
        found = ', '.join(f'{shape} ({samples[index].get("key", index)})' for shape, index in shapes.items())
        raise ValueError(
            f'{name!r} has different shapes in one batch: {found}. Add a transform that gives every sample one size, '
            'e.g. torchvision/RandomResizedCrop, or use batch_size=1.'
        )
    return torch.stack(values)
