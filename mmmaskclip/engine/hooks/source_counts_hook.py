"""Counts the samples of each source of a mixed dataset."""

from __future__ import annotations

from collections import Counter

from mmengine.dist import get_world_size
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner

from mmmaskclip.registry import HOOKS

_STATE = 'source_counts'


@HOOKS.register_module()
class SourceCountsHook(Hook):
    """Logs how many samples of each source training has seen, ``source/NAME``, and its share, ``source_share/NAME``.

    It counts ``data_batch['source']``, which :class:`~mmmaskclip.datasets.MixedSources` fills. That dataset gives every
    rank the same number of samples of each source. So the counts of the run are this rank's counts times the number of
    ranks, without a collective. A resumed run continues the counts exactly.

    Raises:
        KeyError: In the first iteration, if the dataset does not name the source of its samples.
    """

    # Before LoggerHook, which prints, and CheckpointHook, which saves the counts.
    priority = 'NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Continue the counts of a resumed run."""
        self._counts: Counter[str] = Counter(runner.message_hub.get_info(_STATE, {}) or {})
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._interval = loggers[0].interval if loggers else 1

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Count the batch; at the end of an interval send the counts to the log."""
        assert data_batch is not None
        if 'source' not in data_batch:
            raise KeyError(
                "SourceCountsHook: the batch has no 'source': use MixedSources as train_dataloader.dataset, or leave "
                'this hook out of custom_hooks'
            )
        for source, count in Counter(data_batch['source']).items():
            self._counts[source] += count * get_world_size()
        # In every iteration, because a checkpoint may follow any of them.
        runner.message_hub.update_info(_STATE, dict(self._counts))
        if self.every_n_inner_iters(batch_idx, self._interval) or self.end_of_epoch(runner.train_dataloader, batch_idx):
            for source, count in self._counts.items():
                runner.message_hub.update_scalar(f'train/source/{source}', count)
                runner.message_hub.update_scalar(f'train/source_share/{source}', count / self._counts.total())
