"""The training loop of a pretraining run."""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Iterator
from pathlib import Path

from mmengine.dist import all_gather_object, broadcast_object_list, get_rank, get_world_size, is_main_process
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from mmmaskclip.contracts import ChecksBeforeTraining, OrdersEpochs
from mmmaskclip.datasets.training.auto import default_sampler
from mmmaskclip.datasets.training.batch_parts import BatchesInParts, parts_of
from mmmaskclip.registry import LOOPS

# A file in the work dir that holds the iteration of the last finished validation.
_VALIDATED = 'last_validation'


@LOOPS.register_module()
class PretrainLoop(EpochBasedTrainLoop):
    """Epoch-based training that checks the data before the first step and resumes inside an epoch.

    It differs from its base in six ways:

    * Before each epoch it calls ``begin_epoch(epoch=, seed=, batch_size=, start_batch=)`` of dataset and sampler, if
      they have this method. ``seed`` is the run's seed, equal on all ranks.
    * A checkpoint saved by iterations resumes at the next batch. The dataset or sampler that decides the order skips
      ``start_batch`` batches of the epoch without decoding them.
    * ``dataset.preflight()``, if the dataset has it, runs once on every rank before the first step; the ranks share the
      shards. An error of one rank is raised on all.
    * A run that is resumed at an iteration with an unfinished validation begins with that validation.
    * Workers deliver large batches in parts (:mod:`~mmmaskclip.datasets.training.batch_parts`). For an iterable dataset
      ``batch_size`` and ``start_batch`` of ``begin_epoch`` then count parts.
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
        self._validated_at: int | None = None
        self._check_dataloader()
        self._parts = parts_of(self.dataloader)
        self._batches = BatchesInParts(self.dataloader, self._parts) if self._parts > 1 else self.dataloader

    def run(self) -> nn.Module:
        """Check the data, then train; returns the trained model."""
        if self._val_interval_iters and self.runner.val_loop is None:
            raise ValueError(
                f'train_cfg.val_interval_iters={self._val_interval_iters}, but the config has no val_dataloader, '
                'val_evaluator and val_cfg: give them, or leave the interval out.'
            )
        self._validated_at = self._read_validated() if self._iter else None
        if self._iter >= self._max_iters:
            self.runner.logger.warning(
                f'Nothing is left to train: the run is at iteration {self._iter} of {self._max_iters}. To train longer '
                'raise train_cfg.max_epochs and the schedules; to start a new run use another --work-dir.'
            )
            # A run that was interrupted in its last validation, or just before it, still validates.
            if self._epoch >= self._max_epochs and not self._lacks_validation():
                return self.runner.model
        self._preflight()
        self.runner.call_hook('before_train')
        # Freeze the objects that live until the end of the run. A full garbage collection then no longer visits them:
        # the visit would interrupt a step, and would make workers copy the pages of memory that they share.
        gc.collect()
        gc.freeze()
        try:
            self._train()
        finally:
            gc.unfreeze()
        self.runner.call_hook('after_train')
        return self.runner.model

    def _train(self) -> None:
        if self._lacks_validation():
            self.runner.logger.info(f'The validation of iteration {self._iter} was not finished: it is repeated.')
            self._validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            # Skip a validation of the same model: by iterations, or just before the run was killed and resumed.
            if self._validates_epochs() and self._validated_at != self._iter:
                self._validate()

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
                self._validate()
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

    def _validates_epochs(self) -> bool:
        """Whether a validation follows the epoch that has ended, as mmengine's loop decides it."""
        due = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        return self.runner.val_loop is not None and self._epoch >= self.val_begin and due

    def _validate(self) -> None:
        self.runner.val_loop.run()
        self._validated_at = self._iter
        if is_main_process():
            try:
                Path(self.runner.work_dir, _VALIDATED).write_text(str(self._iter))
            except OSError as error:  # a full disk; the validation would be repeated
                self.runner.logger.error(f'{_VALIDATED} could not be written: {error}.')

    def _lacks_validation(self) -> bool:
        """Whether a resumed run was killed during a validation: one is due at this iteration and was not finished."""
        if self.runner.val_loop is None or not self._iter:
            return False
        by_iterations = self._val_interval_iters and self._iter % self._val_interval_iters == 0
        after_epoch = self._epoch and self._iter == self._epoch * len(self.dataloader) and self._validates_epochs()
        return bool(by_iterations or after_epoch) and self._validated_at != self._iter

    def _read_validated(self) -> int | None:
        """Iteration of the last validation that the run has finished."""
        path = Path(self.runner.work_dir, _VALIDATED)
        text = path.read_text() if path.is_file() else ''
        iteration = [int(text) if text.isdecimal() else None]
        broadcast_object_list(iteration)  # of rank 0: the others may see another folder
        return iteration[0]

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
            parts = self._parts if isinstance(part, IterableDataset) else 1
            part.begin_epoch(
                epoch=self._epoch,
                seed=self._seed,
                batch_size=self.dataloader.batch_sampler.batch_size // parts,
                start_batch=start_batch * parts,
            )

    def _timed_batches(self, start_batch: int) -> Iterator:
        """Batches up to the length of the epoch. Measures the wait for each batch, including the start of workers."""
        begin = time.perf_counter()
        batches = iter(self._batches)
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
