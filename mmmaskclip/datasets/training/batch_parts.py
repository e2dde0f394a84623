"""Batches that the workers of a loader deliver in parts.

A worker that makes whole batches of 1,024 images needs seconds for its first one, while the others make the batches
after it; and each waits with several batches of 154 MB in shared memory. With parts of 128, all workers make the first
batch together, and what waits is an eighth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Sampler

from mmmaskclip.contracts import FixesBatches
from mmmaskclip.datasets.training.collate import collate_image_text, shapes_differ
from mmmaskclip.datasets.transforms.tokenize import pad_tokens
from mmmaskclip.startup.workers import count_parts, parts_ahead


def parts_of(loader: DataLoader) -> int:
    """Number of parts of one batch of a training loader, by :func:`~mmmaskclip.startup.workers.count_parts`.

    It is 1, a whole batch, without workers, with another collate function than :func:`collate_image_text`, and for a
    dataset that composes its batches (:class:`~mmmaskclip.contracts.FixesBatches`).
    """
    collate = loader.collate_fn
    collate = collate.func if isinstance(collate, partial) else collate
    batches = loader.batch_sampler
    divides = collate is collate_image_text and not isinstance(loader.dataset, FixesBatches)
    return count_parts(batches.batch_size, loader.num_workers) if divides and isinstance(batches, BatchSampler) else 1


class BatchesInParts:
    """Iterates over the batches of a loader whose workers deliver each batch in parts.

    The parts of a batch follow each other in one memory, pinned if the loader pins. The result equals what
    ``collate_image_text`` makes of all samples of the batch. A dataset with a sampler gives the samples of the loader's
    own batches. An iterable dataset must be told the size of a part as its ``batch_size``, and counts its
    ``start_batch`` in parts: its workers deliver parts in turn, as they would deliver batches.

    ``prefetch_factor`` counts parts; it is raised until the parts of two batches can wait.

    Args:
        loader: A loader of full batches.
        count: Parts of one batch; they divide the batch size.
    """

    def __init__(self, loader: DataLoader, count: int) -> None:
        self._loader, self._count = loader, count
        self._parts: DataLoader | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._parts is None:
            # At the first epoch, not earlier: hooks set the loader's worker_init_fn.
            self._parts = _loader_of_parts(self._loader, self._count)
        parts = iter(self._parts)
        # Each thread has a device of its own, and memory is pinned for that one.
        device = (torch.cuda.set_device, (torch.cuda.current_device(),)) if torch.cuda.is_available() else (None, ())
        # In a thread, one batch ahead: copying 1,024 images takes 130 ms, which a step on a GPU would wait for.
        with ThreadPoolExecutor(1, 'batches', *device) as pool:
            following = pool.submit(self._join, parts)
            while (batch := following.result()) is not None:
                following = pool.submit(self._join, parts)
                yield batch

    def _join(self, parts: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
        """Put the next parts together; None if there are not enough of them for a batch."""
        batch = _Batch(self._count, self._loader.pin_memory and torch.accelerator.is_available())
        for part in islice(parts, self._count):
            batch.add(part)
        return batch.finish() if batch.parts == self._count else None


class _PartSampler(Sampler[list[int]]):
    """Divides the batches of indices of another sampler."""

    def __init__(self, batches: Any, count: int) -> None:
        self._batches, self._count = batches, count

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            size = len(batch) // self._count
            yield from (batch[start : start + size] for start in range(0, len(batch), size))

    def __len__(self) -> int:
        return len(self._batches) * self._count


def _loader_of_parts(loader: DataLoader, count: int) -> DataLoader:
    batches: Any = loader.batch_sampler
    if isinstance(loader.dataset, IterableDataset):
        what: dict[str, Any] = dict(batch_size=batches.batch_size // count, drop_last=True)
    else:
        what = dict(batch_sampler=_PartSampler(batches, count))
    return DataLoader(
        loader.dataset,
        **what,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=parts_ahead(count, loader.num_workers, loader.prefetch_factor or 2),
        persistent_workers=loader.persistent_workers,
    )


class _Batch:
    """A batch that grows by its parts."""

    def __init__(self, count: int, pin: bool) -> None:
        self.parts = 0
        self._count, self._pin = count, pin
        self._batch: dict[str, Any] = {}
        self._tokens: list[Tensor] = []
        self._shapes: dict[str, tuple[tuple[int, ...], str]] = {}

    def add(self, part: dict[str, Any]) -> None:
        """Copy one part to its place, so that its shared memory is free again."""
        for name, value in part.items():
            if name == 'tokens':
                # Each part is padded to its own longest caption. A copy, for the part's memory is a worker's.
                self._tokens.append(value.clone())
                self._batch.setdefault(name, value)
            elif isinstance(value, Tensor):
                self._copy(name, value, part.get('key') or range(len(value)))
            elif self.parts:
                self._batch[name].extend(value)
            else:
                self._batch[name] = value
        self.parts += 1

    def _copy(self, name: str, value: Tensor, keys: Sequence[Any]) -> None:
        size, shape = len(value), tuple(value.shape[1:])
        if not self.parts:
            self._batch[name] = value.new_empty((size * self._count, *shape), pin_memory=self._pin)
            self._shapes[name] = shape, str(keys[0])
        first_shape, first_key = self._shapes[name]
        if shape != first_shape:
            raise shapes_differ(name, {first_shape: first_key, shape: str(keys[0])})
        self._batch[name][self.parts * size : (self.parts + 1) * size] = value

    def finish(self) -> dict[str, Any]:
        """Return the whole batch."""
        if self._tokens:
            rows = [row for part in self._tokens for row in part]
            tokens = pad_tokens(rows) if rows else self._tokens[0]
            self._batch['tokens'] = tokens.pin_memory() if self._pin else tokens
        return self._batch
