"""Stacks samples into a batch, in the loader's worker, so that one pinned transfer moves the batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from mmmaskclip.datasets.transforms.tokenize import pad_tokens
from mmmaskclip.registry import FUNCTIONS


@FUNCTIONS.register_module()
def collate_image_text(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make one batch of B samples of this package's datasets.

    Args:
        samples: B dicts with the same keys. Known keys are ``tokens`` (int32 tensor (L,), or a list of them when a
            sample has several captions), ``seed``, ``label`` and ``image_id`` (ints), ``key`` (str), ``skipped`` (list
            of dicts).
            Every other key holds a tensor of one shape for all samples: images and masks.

    Returns:
        dict: ``tokens`` int32 (B, L), or (T, L) with ``num_captions`` int64 (B,) when samples have lists of captions,
        zeros after the end of a caption, L = longest caption of the batch; ``caption_ends``, the place of the highest
        id, CLIP's end, in each caption, a list of ints, so that the host need not wait for it; ``seed``, ``label`` and
        ``image_id`` int64 (B,); ``key`` list of B strings; ``skipped`` one flat list; every other key stacked along a
        new first dimension.
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


@FUNCTIONS.register_module()
def collate_labelled(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make one batch of B samples as mmpretrain packs them, for linear probes and fine-tuning with large batches.

    mmengine's own ``pseudo_collate`` keeps B images, and each tensor that a worker sends is a shared-memory file of its
    own: at 2,048 images per process a loader exceeds the usual limit of 1,024 open files. Here a batch takes one file
    for the images and one for each field of the labels.

    Args:
        samples: B dicts with ``inputs`` (tensors of one shape) and ``data_samples`` (``mmpretrain.DataSample``).

    Returns:
        dict: ``inputs``, stacked (B, ...), and ``data_samples``, a list of B.
    """
    inputs = _stack('inputs', [sample['inputs'] for sample in samples], [{'key': i} for i in range(len(samples))])
    return {'inputs': inputs, 'data_samples': _Packed(sample['data_samples'] for sample in samples)}


class _Packed(list):
    """A list of data samples that travels between processes as one tensor per field."""

    def __reduce__(self) -> tuple[Any, ...]:
        fields = [dict(sample.items()) for sample in self]
        tensors = [{name: value for name, value in values.items() if isinstance(value, Tensor)} for values in fields]
        shapes = [{name: value.shape for name, value in values.items()} for values in tensors]
        stacked = {
            name: torch.stack([values[name] for values in fields])
            for name, shape in (shapes[0] if shapes else {}).items()
            if all(other.get(name) == shape for other in shapes)
        }
        rest = [{name: value for name, value in values.items() if name not in stacked} for values in fields]
        return _unpack, ([type(sample) for sample in self], [sample.metainfo for sample in self], stacked, rest)


def _unpack(types: list[type], metas: list[dict], stacked: dict[str, Tensor], rest: list[dict]) -> list[Any]:
    samples = []
    for index, (cls, meta, fields) in enumerate(zip(types, metas, rest, strict=True)):
        sample = cls(metainfo=meta)
        sample.set_data({**{name: values[index] for name, values in stacked.items()}, **fields})
        samples.append(sample)
    return samples


def _collate_tokens(values: list[Any]) -> dict[str, Any]:
    if isinstance(values[0], Tensor):
        tokens = pad_tokens(values)
        return {'tokens': tokens, 'caption_ends': tokens.argmax(dim=1).tolist()}
    flat = [tokens for captions in values for tokens in captions]
    tokens = pad_tokens(flat) if flat else torch.zeros(0, 0, dtype=torch.int32)
    return {
        'tokens': tokens,
        'caption_ends': tokens.argmax(dim=1).tolist() if flat else [],
        'num_captions': torch.tensor([len(captions) for captions in values], dtype=torch.int64),
    }


def _stack(name: str, values: list[Tensor], samples: Sequence[dict[str, Any]]) -> Tensor:
    shapes = {tuple(value.shape): index for index, value in enumerate(values)}
    if len(shapes) > 1:
        raise shapes_differ(name, {shape: samples[index].get('key', index) for shape, index in shapes.items()})
    if get_worker_info() is None:
        return torch.stack(values)
    # Stack in shared memory; otherwise sending the batch to the training process copies it once more.
    size = sum(value.numel() for value in values)
    out = values[0].new(values[0]._typed_storage()._new_shared(size, device='cpu'))
    return torch.stack(values, out=out.resize_(len(values), *values[0].shape))


def shapes_differ(name: str, keys: dict[tuple[int, ...], Any]) -> ValueError:
    """The error of a batch whose tensors ``name`` differ in shape, with the key of a sample of each shape."""
    found = ', '.join(f'{shape} ({key})' for shape, key in keys.items())
    return ValueError(
        f'{name!r} has different shapes in one batch: {found}. Add a transform that gives every sample one size, e.g. '
        'torchvision/RandomResizedCrop, or use batch_size=1.'
    )
