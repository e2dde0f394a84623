"""Shuffling of a map-style dataset that can start in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mmengine.dataset import DefaultSampler

from mmmaskclip.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ResumableSampler(DefaultSampler):
    """mmengine's ``DefaultSampler`` that skips the indices a resumed run has already used, without loading them.

    It takes the same arguments, but ignores ``round_up``. If the samples cannot be divided equally among the ranks, the
    base class repeats samples or gives some ranks one more. This sampler drops the rest, so that no sample occurs twice
    in an epoch. :class:`PretrainLoop` calls :meth:`begin_epoch` before each epoch. The call also sets the seed, which
    the Runner would otherwise draw at random if ranks are seeded differently (``randomness.diff_rank_seed``).
    """

    _start = 0

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.num_samples = len(self.dataset) // self.world_size
        self.total_size = self.num_samples * self.world_size

    def begin_epoch(self, epoch: int, seed: int, batch_size: int, start_batch: int = 0) -> None:
        """Choose the order of the next iteration.

        Args:
            epoch: Epoch, from 0.
            seed: Seed of the run, the same on every rank.
            batch_size: Samples per batch and rank.
            start_batch: Batches of this rank's epoch to leave out at its beginning. Defaults to 0.
        """
        self.epoch, self.seed = epoch, seed
        self._start = start_batch * batch_size

    def __iter__(self) -> Iterator[int]:
        return islice(super().__iter__(), self._start, None)
