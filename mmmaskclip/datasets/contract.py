"""What a training loop asks of a dataset, besides ``__len__`` and samples.

:class:`~mmmaskclip.engine.loops.pretrain_loop.PretrainLoop` looks for both protocols by ``isinstance``. A dataset with
neither trains too; its sampler then decides the order.
"""

from typing import Protocol, runtime_checkable


@runtime_checkable
class OrdersEpochs(Protocol):
    """A dataset or sampler whose order, or whose random choices, depend on the epoch."""

    def begin_epoch(self, epoch: int, seed: int, batch_size: int, start_batch: int = 0) -> None:
        """Set what the next pass over the loader reads; it must reach persistent workers.

        Args:
            epoch: Counted from 0.
            seed: The run's seed, the same on all ranks.
            batch_size: Samples per batch and rank.
            start_batch: Batches of this rank to leave out at the beginning of the epoch.
        """


@runtime_checkable
class ChecksBeforeTraining(Protocol):
    """A dataset that can look at its files before the first step."""

    def preflight(self) -> None:
        """Check the files; rank 0 calls it, once.

        Raises:
            ValueError: The data cannot be used. Names the files, what was expected and the remedy.
        """
