"""Contracts of datasets: what a training loop asks of them, and what every loop may ask."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Described(Protocol):
    """A dataset, for training or evaluation, that states facts about itself."""

    #: mmengine's facts about the data, e.g. ``classes``; may be empty.
    metainfo: Mapping[str, Any]


class TrainingSamples(Described, Protocol):
    """A training dataset. The next three contracts are optional; without them its sampler decides the order."""

    def __len__(self) -> int:
        """Samples of this process in one epoch."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Samples: a uint8 tensor per view, ``tokens``, ``seed``, ``key``, and ``skipped``.

        ``skipped`` counts the bad samples between the sample before and this one.
        """


@runtime_checkable
class CountsSamples(Protocol):
    """An iterable dataset that knows its size. Its ``len`` is only the rounded share of one process."""

    #: Samples of all processes in one epoch.
    total_samples: int


@runtime_checkable
class OrdersEpochs(Protocol):
    """A dataset or sampler whose order, or whose random choices, depend on the epoch."""

    def begin_epoch(self, epoch: int, seed: int, batch_size: int, start_batch: int = 0) -> None:
        """Set the position of the next pass over the loader. The setting must reach persistent workers.

        Args:
            epoch: Counted from 0.
            seed: The run's seed, the same on all ranks.
            batch_size: Samples per batch and rank.
            start_batch: Batches of this rank to leave out at the beginning of the epoch.
        """


@runtime_checkable
class FixesBatches(Protocol):
    """An iterable dataset that composes each batch, so that a loader's workers deliver it whole."""

    #: Samples of a batch of one process.
    batch_size: int


@runtime_checkable
class ChecksBeforeTraining(Protocol):
    """A dataset that can check its files before the first step."""

    def preflight(self) -> None:
        """Check the files. Collective: every rank calls it once, and may check a share of them.

        Raises:
            ValueError: On one rank or on all, if the data cannot be used. The message names the files, what was
                expected, and the remedy.
        """
