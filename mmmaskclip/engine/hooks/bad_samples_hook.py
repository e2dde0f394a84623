"""Counts, lists and limits the samples that training had to skip."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmaskclip.datasets.sampling import NOTES
from mmmaskclip.engine.hooks.checkpoint_hook import save_now
from mmmaskclip.registry import HOOKS
from mmmaskclip.utils.json_lines import append_json_lines

_FILE = 'bad_samples.jsonl'
_STATE = 'bad_samples'


@HOOKS.register_module()
class BadSamplesHook(Hook):
    """Reports the samples that the datasets skipped, and stops a run that skips too many.

    Datasets replace an unusable sample by another one and list it in ``data_batch['skipped']``. Every ``interval``
    iterations the ranks add up their counts. The hook logs new bad samples by cause and appends each of them, once, to
    ``bad_samples.jsonl`` in the work directory. If the disk is full, the next report appends them. A resumed run
    continues the counts.

    A run that has to stop saves a checkpoint first, so that it can be resumed once the data is repaired.

    A record with ``samples`` stands for that many samples, for example the rest of a shard that a store did not
    deliver. Records of :data:`~mmmaskclip.datasets.sampling.NOTES` (a shard that is read again, repeated samples) are
    logged and listed. They do not count towards ``max_share``, because no sample is lost.

    Args:
        max_share: Training stops when more than this share of the samples delivered since this start was skipped. The
            limit applies from 1000 delivered samples on, so that one bad sample at the start does not stop a run.
        interval: Iterations between two reports.

    Raises:
        RuntimeError: On all ranks, when more than ``max_share`` of the samples are bad.
    """

    # After schedules and NonFiniteHook, so that a checkpoint saved here is complete; before ReliableCheckpointHook,
    # whose checkpoints keep the counts.
    priority = 'LOW'

    def __init__(self, max_share: float = 0.02, interval: int = 50) -> None:
        self.max_share = max_share
        self.interval = interval
        self._causes: Counter[str] = Counter()
        self._seen = 0
        self._new: list[dict[str, str]] = []
        self._new_seen = 0
        self._listed: set[tuple[str, ...]] = set()
        # Records that could not be appended because the disk was full.
        self._unlisted: list[dict[str, str]] = []

    def before_train(self, runner: Runner) -> None:
        """Continue the counts of a resumed run."""
        state = runner.message_hub.get_info(_STATE, {}) or {}
        self._seen, self._causes = state.get('seen', 0), Counter(state.get('causes', {}))
        self._seen_before, self._skipped_before = self._seen, self._lost()
        path = Path(runner.work_dir) / _FILE
        if get_rank() == 0 and path.exists():
            # A killed run may have left half a line.
            for line in path.read_text(encoding='utf-8').splitlines():
                try:
                    self._listed.add(_identity(json.loads(line)))
                except ValueError:
                    continue

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Collect what the batch reports, and report every ``interval`` iterations."""
        assert data_batch is not None
        self._new.extend(data_batch.get('skipped', ()))
        self._new_seen += len(data_batch['key'])
        if self.every_n_train_iters(runner, self.interval):
            self._report(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Report before the epoch's checkpoint, which keeps the counts."""
        self._report(runner)

    def after_train(self, runner: Runner) -> None:
        """Report the samples since the last report."""
        self._report(runner)

    def _report(self, runner: Runner) -> None:
        counts = torch.tensor([len(self._new), self._new_seen])
        all_reduce(counts)
        new, seen = counts.tolist()
        self._seen += seen
        if new:
            # Not gather_object, which NCCL lacks.
            records = [record for part in all_gather_object(self._new) for record in part]
            for record in records:
                self._causes[record['cause']] += record.get('samples', 1)
            if get_rank() == 0:
                self._list(records)
        if self._unlisted and append_json_lines(Path(runner.work_dir) / _FILE, self._unlisted):
            self._unlisted = []
        self._new, self._new_seen = [], 0
        total = self._lost()
        runner.message_hub.update_info(_STATE, {'seen': self._seen, 'causes': dict(self._causes)})
        if new:
            runner.logger.warning(
                f'{total} samples skipped so far, {total / max(self._seen, 1):.2%} of {self._seen}: '
                f'{self._by_cause()}; listed in {Path(runner.work_dir) / _FILE}'
            )
        skipped, seen = total - self._skipped_before, self._seen - self._seen_before
        if skipped > self.max_share * max(seen, 1000):
            saved = self._save(runner)
            raise RuntimeError(
                f'{skipped} of {seen} samples since this start could not be used, more than '
                f'max_share={self.max_share:.1%}: {self._by_cause()} in the whole run. They are listed in '
                f'{Path(runner.work_dir) / _FILE}. {saved} Repair the data, or raise max_share of BadSamplesHook if '
                'this is expected.'
            )

    def _lost(self) -> int:
        return sum(count for cause, count in self._causes.items() if cause not in NOTES)

    def _save(self, runner: Runner) -> str:
        try:
            path = save_now(runner, 'too many bad samples')
        except (OSError, RuntimeError) as error:  # on all ranks alike
            return f'No checkpoint was saved: {error}'
        return f'{path} is saved; --resume continues from it.'

    def _list(self, records: list[dict[str, str]]) -> None:
        for record in records:
            if _identity(record) not in self._listed:
                self._listed.add(_identity(record))
                self._unlisted.append(record)

    def _by_cause(self) -> str:
        return ', '.join(f'{cause} {count}' for cause, count in self._causes.most_common())


def _identity(record: dict[str, str]) -> tuple[str, ...]:
    return record['shard'], record['key'], record['cause']
