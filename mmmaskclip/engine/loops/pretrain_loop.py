"""The training loop of a pretraining run."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from mmmaskclip.contracts import ChecksBeforeTraining, OrdersEpochs
from mmmaskclip.datasets.training.auto import default_sampler
from mmmaskclip.registry import LOOPS


@LOOPS.register_module()
class PretrainLoop(EpochBasedTrainLoop):
    """Epoch-based training that checks the data before the first step and resumes inside an epoch.

    It differs from its base in four ways:

    * Before each epoch it calls ``begin_epoch(epoch=, seed=, batch_size=, start_batch=)`` of dataset and sampler, if
      they have this method. ``seed`` is the run's seed, equal on all ranks.
    * A checkpoint saved by iterations resumes at the next batch. The dataset or sampler that decides the order skips
      ``start_batch`` batches of the epoch without decoding them.
    * ``dataset.preflight()``, if the dataset has it, runs once on every rank before the first step; the ranks share the
      shards. An error of one rank is raised on all.
    * :attr:`data_wait` holds the time that this process waited for the batch.

    The loop sets ``drop_last``, because contrastive losses gather equal batches from all ranks. It replaces mmengine's
    ``DefaultSampler`` by :class:`ResumableSampler`, which is also the default for image files.

    Args:
        runner: The runner.
        dataloader: Dataloader or its config.
        max_epochs: Epochs to train.
        val_interval_iters: Also validate every this many iterations; an epoch of 20 million pairs takes hours. Also set
            ``default_hooks.logger.log_metric_by_epoch=False``; otherwise all validations of an epoch are logged at one
            step. None by default.
        **kwargs: ``val_begin``, ``val_interval`` and ``dynamic_intervals`` of mmengine's ``EpochBasedTrainLoop``.

    Attributes:
        data_wait (float): Seconds this process waited for the current batch.

    Raises:
        ValueError: If the dataset is smaller than one global batch, incomplete batches are kept, or neither dataset
            nor sampler has ``begin_epoch``; in :meth:`run`, if ``val_interval_iters`` is set without validation data.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        max_epochs: int,
        val_interval_iters: int | None = None,
        **kwargs,
    ) -> None:
        if isinstance(dataloader, dict):
            dataloader = copy.deepcopy(dataloader)
            dataloader.setdefault('drop_last', True)
            sampler = dataloader.get('sampler')
            if isinstance(sampler, dict) and sampler['type'] == 'DefaultSampler':
                sampler['type'] = 'ResumableSampler'
            dataloader.setdefault('sampler', default_sampler(dataloader['dataset']))
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        self.data_wait = 0.0
        self._val_interval_iters = val_interval_iters
        self._check_dataloader()

    def run(self) -> nn.Module:
        """Check the data, then train; returns the trained model."""
        if self._val_interval_iters and self.runner.val_loop is None:
            raise ValueError(
                f'train_cfg.val_interval_iters={self._val_interval_iters}, but the config has no val_dataloader, '
                'val_evaluator and val_cfg: give them, or leave the interval out.'
            )
        if self._iter >= self._max_iters:
            self.runner.logger.warning(
                f'Nothing is left to train: the run is at iteration {self._iter} of {self._max_iters}. To train longer '
                'raise train_cfg.max_epochs and the schedules; to start a new run use another --work-dir.'
            )
            # Otherwise the run was interrupted between its last iteration and the hooks after the epoch.
            if self._epoch >= self._max_epochs:
                return self.runner.model
        self._preflight()
        return super().run()

    def run_epoch(self) -> None:
        """Train on the rest of the current epoch."""
        start_batch = self._iter - self._epoch * len(self.dataloader)
        self._begin_epoch(start_batch)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = start_batch
        for batch in self._timed_batches(start_batch):
            self.run_iter(done, batch)
            done += 1
            if self._val_interval_iters and self._iter % self._val_interval_iters == 0:
                self.runner.val_loop.run()
                self.runner.model.train()
                if self.stop_training:
                    return
        if done != len(self.dataloader):
            raise RuntimeError(
                f'{self._dataset_name} announced {len(self.dataloader)} batches per epoch, but epoch {self._epoch} '
                f'ended after {done}: its length is wrong, or samples vanished while training.'
            )
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    @property
    def _dataset_name(self) -> str:
        return type(self.dataloader.dataset).__name__

    @property
    def _seed(self) -> int:
        """The run's seed, equal on all ranks. With ``diff_rank_seed`` the Runner adds the rank to ``runner.seed``."""
        offset = get_rank() if self.runner._randomness_cfg.get('diff_rank_seed', False) else 0
        return self.runner.seed - offset

    def _data_order(self) -> list:
        parts = (self.dataloader.dataset, self.dataloader.sampler, self.dataloader.batch_sampler.sampler)
        return [part for part in dict.fromkeys(parts) if isinstance(part, OrdersEpochs)]

    def _check_dataloader(self) -> None:
        batch_sampler, world_size = self.dataloader.batch_sampler, get_world_size()
        if not len(self.dataloader):
            raise ValueError(
                f'{self._dataset_name} has {len(self.dataloader.dataset)} samples, fewer than one global batch: '
                f'{world_size} processes x batch_size {batch_sampler.batch_size}. Lower train_dataloader.batch_size, '
                'use fewer processes, or check the path of the data.'
            )
        if not batch_sampler.drop_last:
            raise ValueError(
                'train_dataloader.drop_last=False: the incomplete last batch of an epoch would have another size on '
                'each rank, and contrastive losses gather equal batches. Leave drop_last out.'
            )
        # A map-style dataset may have begin_epoch for its augmentation, but the sampler decides the order.
        dataset = self.dataloader.dataset
        map_style = not isinstance(dataset, IterableDataset)
        if not [part for part in self._data_order() if not (map_style and part is dataset)]:
            raise ValueError(
                f'Neither {self._dataset_name} nor its sampler {type(self.dataloader.sampler).__name__} has '
                "begin_epoch, so a resumed run could not find its place. Use sampler=dict(type='ResumableSampler', "
                'shuffle=True).'
            )

    def _begin_epoch(self, start_batch: int) -> None:
        for part in self._data_order():
            part.begin_epoch(
                epoch=self._epoch,
                seed=self._seed,
                batch_size=self.dataloader.batch_sampler.batch_size,
                start_batch=start_batch,
            )

    def _timed_batches(self, start_batch: int) -> Iterator:
        """Batches up to the length of the epoch. Measures the wait for each batch, including the start of workers."""
        begin = time.perf_counter()
        batches = iter(self.dataloader)
        for _ in range(start_batch, len(self.dataloader)):
            batch = next(batches, None)
            if batch is None:
                return
            self.data_wait = time.perf_counter() - begin
            yield batch
            begin = time.perf_counter()

    def _preflight(self) -> None:
        dataset = self.dataloader.dataset
        if not isinstance(dataset, ChecksBeforeTraining):
            return
        error: Exception | None = None
        try:
            dataset.preflight()
        except Exception as exception:  # raised below on every rank, so that no rank waits for another
            error = exception
        messages = all_gather_object(None if error is None else f'{type(error).__name__}: {error}')
        message = next((text for text in messages if text is not None), None)
        if message is not None:
            raise RuntimeError(f'The check of the data before the first step failed. {message}') from error
