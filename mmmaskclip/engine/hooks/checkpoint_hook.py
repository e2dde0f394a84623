"""Decides when to save a checkpoint and which to keep; survives a full disk."""

from __future__ import annotations

import os
import time
from collections import deque
from functools import partial
from typing import Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmmaskclip.checkpoints.files import (
    remove_checkpoint,
    remove_remains,
    write_checkpoint,
    write_last_checkpoint,
)
from mmmaskclip.engine.hooks.checkpoint_writer import CheckpointWriter, describe_failure
from mmmaskclip.engine.runner import ReliableRunner
from mmmaskclip.engine.start_checks import describe_others
from mmmaskclip.registry import HOOKS
from mmmaskclip.utils.disk import DISK_FULL
from mmmaskclip.utils.distributed import any_rank

# Iterations between two looks at the clock where several processes must agree on it.
_CLOCK_INTERVAL = 20


@HOOKS.register_module()
class ReliableCheckpointHook(CheckpointHook):
    """mmengine's checkpoint hook for a :class:`ReliableRunner`. It deletes an old file once the new one is on disk.

    During gradient accumulation, saving waits for the next optimizer step: between two steps a checkpoint would lose
    gradients.

    If the disk is full, the hook logs an error and training continues. The hook tries again after ``retry_interval``
    iterations or, with ``by_epoch=True``, after the next epoch. A full disk ends the run only at its last checkpoint.

    Args:
        *args: Of mmengine's ``CheckpointHook``.
        interval_minutes: Also save when so many minutes have passed since the last checkpoint. With ``by_epoch=False``
            only. Defaults to None, never.
        keep_every: Checkpoints whose iteration (by epochs: epoch) is a multiple of this number are never removed and do
            not count for ``max_keep_ckpts``. Defaults to None: no such checkpoints.
        async_save: Write in a thread. A step then waits only for the copy to host memory, and for the checkpoint before
            if that one is still being written. The next save, or the end of training, raises the thread's errors on
            all ranks. Defaults to None: the hook begins to use a thread after the first save that takes a second or
            more and more than 1 % of the time since the save before.
        retry_interval: Iterations between two attempts to save a checkpoint that did not fit on the disk.
        **kwargs: Of mmengine's ``CheckpointHook``.

    Raises:
        TypeError: If an argument is unknown; in ``before_train``, if the runner is not a :class:`ReliableRunner`.
        ValueError: If ``interval_minutes`` is given with ``by_epoch=True``, because an epoch does not end by the clock;
            if ``backend_args``, ``published_keys`` or an ``out_dir`` that is an address is given.
    """

    last_ckpt: str | None

    def __init__(
        self,
        *args,
        interval_minutes: float | None = None,
        keep_every: int | None = None,
        async_save: bool | None = None,
        retry_interval: int = 100,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        if interval_minutes is not None and self.by_epoch:
            raise ValueError(
                f'interval_minutes={interval_minutes} with by_epoch=True: an epoch does not end by the clock. Set '
                'by_epoch=False, with interval in iterations.'
            )
        self._check_arguments()
        self.interval_minutes = interval_minutes
        self.keep_every = keep_every
        self.retry_interval = retry_interval
        self.keep_ckpt_ids: deque = deque()
        self._writer = CheckpointWriter(async_save)
        self._due = False
        self._retry_at = 0
        self._saved_at = 0.0
        self._work_dir = ''
        # Files that are to be removed once a newer one is on the disk.
        self._outdated: list[str] = []

    def _check_arguments(self) -> None:
        """Refuse arguments that the base class accepts and this class would ignore."""
        if self.args:
            raise TypeError(f'ReliableCheckpointHook has no {", ".join(self.args)}.')
        if self.backend_args or self.file_client_args or '://' in str(self.out_dir):
            raise ValueError(
                f'out_dir={self.out_dir!r}, backend_args={self.backend_args or self.file_client_args}: checkpoints are '
                'written to folders only. Mount the storage, and give the folder as out_dir.'
            )
        if self.published_keys:
            raise ValueError(
                f'published_keys={self.published_keys}: such files are read by running code from them. Leave it out, '
                'and publish safetensors with tools/model_converters/publish_model.py.'
            )

    def before_train(self, runner: Runner) -> None:
        """Continue the lists of a resumed run, and remove the remains of an interrupted save."""
        info = runner.message_hub.runtime_info
        if self.max_keep_ckpts > 0:
            ids = list(info.get('keep_ckpt_ids', []))
            # The base class would remove them now. This class removes them once a newer checkpoint is on disk.
            surplus = [self.filename_tmpl.format(step) for step in ids[: -self.max_keep_ckpts]]
            self._outdated = [*info.get('outdated_ckpts', []), *surplus]
            runner.message_hub.update_info('keep_ckpt_ids', ids[-self.max_keep_ckpts :])
        super().before_train(runner)
        self._work_dir = runner.work_dir
        self._saved_at = time.monotonic()
        self._writer.start_clock()
        if is_main_process():
            remove_remains(self.out_dir)
            if text := describe_others(self.out_dir, runner.iter, runner.epoch):
                runner.logger.warning(text)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Save if a checkpoint is due and the iteration ended with an optimizer step."""
        if self.by_epoch:
            return
        self._due = (
            self._due
            or self.every_n_train_iters(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_iter(runner))
            or self._minutes_are_over(runner)
        )
        due = self._due and (runner.iter + 1 >= self._retry_at)
        if due and _reliable(runner).at_step_boundary:
            runner.logger.info(f'Saving checkpoint at {runner.iter + 1} iterations')
            self._save_checkpoint(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save by epochs."""
        self._due = self._due or (
            self.by_epoch
            and (
                self.every_n_epochs(runner, self.interval, self.save_begin)
                or (self.save_last and self.is_last_train_epoch(runner))
            )
        )
        if self.by_epoch and self._due:
            runner.logger.info(f'Saving checkpoint at {runner.epoch + 1} epochs')
            self._save_checkpoint(runner)

    def after_train(self, runner: Runner) -> None:
        """Wait for the last checkpoint, and publish it if asked to.

        Raises:
            OSError: If a checkpoint that was due still cannot be written.
        """
        self._due = self._writer.wait() is not None or self._due
        if self._due:
            done = _reliable(runner).iterations_done
            step = runner.epoch if self.by_epoch else done
            self._write_step(runner, step, dict(epoch=runner.epoch, iter=done))
            if error := self._writer.wait():
                raise error
        super().after_train(runner)

    def save_now(self, runner: ReliableRunner, reason: str) -> str:
        """Save the iteration just done and wait until it is on the disk; see :func:`save_now`."""
        self._writer.wait()
        done = runner.iterations_done
        name = f'iter_{done}.pth'
        path = os.path.join(self.out_dir, name)
        if self.last_ckpt == path and not self._due:
            return path
        if not runner.at_step_boundary:
            runner.logger.warning(
                f'{name} falls between two optimizer steps, so it lacks the gradients accumulated since the last one.'
            )
        runner.logger.info(f'{reason}: saving {path}')
        meta = dict(epoch=runner.epoch, iter=done)
        if self.filename_tmpl.format(done) == name:
            self._write_step(runner, done, meta)
        else:
            # The name is not the template's, so retention does not find the file by itself.
            interim = [name] if self.max_keep_ckpts > 0 else []
            self._write_file(runner, name, meta, list(self.keep_ckpt_ids), [*self._outdated, *interim])
            self._outdated = interim
        if error := self._writer.wait():
            raise error
        return path

    def _minutes_are_over(self, runner: Runner) -> bool:
        if self.interval_minutes is None:
            return False
        if get_world_size() > 1 and (runner.iter + 1) % _CLOCK_INTERVAL:
            return False
        return any_rank(time.monotonic() - self._saved_at >= 60 * self.interval_minutes)

    def _save_checkpoint(self, runner: Runner) -> None:
        done = _reliable(runner).iterations_done
        if self.by_epoch:
            self._save_checkpoint_with_step(runner, runner.epoch + 1, dict(epoch=runner.epoch + 1, iter=done))
        else:
            self._save_checkpoint_with_step(runner, done, dict(epoch=runner.epoch, iter=done))

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        """Save a step; if the disk is full, continue and try again later."""
        if not _reliable(runner).at_step_boundary:
            if not self.by_epoch:
                self._due = True  # by a validation between two optimizer steps
                return
            runner.logger.warning(
                f'Epoch {step} ends between two optimizer steps, so its checkpoint lacks the gradients accumulated '
                'since the last one. Let accumulative_counts divide the iterations of an epoch.'
            )
        try:
            self._write_step(runner, step, meta)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            self._due, self._retry_at = True, runner.iter + 1 + self.retry_interval
            again = 'after the next epoch' if self.by_epoch else f'in {self.retry_interval} iterations'
            runner.logger.error(describe_failure(error, f'the next attempt is {again}'))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Save the best checkpoint, then remove the former best. The base class would remove that one first."""
        if not self.save_best:
            return
        before, info = self._best(), dict(runner.message_hub.runtime_info)
        self._set_best(dict.fromkeys(before))
        try:
            super()._save_best_checkpoint(runner, metrics)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            self._set_best(before)
            for key in [key for key in runner.message_hub.runtime_info if key.startswith('best_')]:
                runner.message_hub.runtime_info.pop(key)
                if key in info:
                    runner.message_hub.update_info(key, info[key])
            runner.logger.error(describe_failure(error, 'the next attempt is after the next validation'))
            return
        now = self._best()
        self._set_best({key: path or before.get(key) for key, path in now.items()})
        if is_main_process():
            for path in set(filter(None, before.values())) - set(filter(None, self._best().values())):
                remove_checkpoint(path)

    def _best(self) -> dict[str, str | None]:
        """Paths of the best checkpoints by metric."""
        if len(self.key_indicators) == 1:
            return {'': self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best(self, paths: dict[str, str | None]) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths['']
        else:
            self.best_ckpt_path_dict = paths

    def _write_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        ids = [other for other in self.keep_ckpt_ids if other != step]
        if not (self.keep_every and step % self.keep_every == 0):
            ids.append(step)
        surplus = ids[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        self._write_file(
            runner,
            self.filename_tmpl.format(step),
            meta,
            ids[len(surplus) :],
            [*self._outdated, *map(self.filename_tmpl.format, surplus)],
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
        )
        self._due, self._retry_at, self._saved_at = False, 0, time.monotonic()

    def _write_file(
        self, runner: Runner, name: str, meta: dict[str, Any], ids: list[int], outdated: list[str], **options: bool
    ) -> None:
        """Save a file and keep ``ids``. Once the file is on disk, remove the ``outdated`` files except the new one."""
        former = self.last_ckpt, list(self.keep_ckpt_ids), self._outdated
        self.last_ckpt, self._outdated = os.path.join(self.out_dir, name), outdated
        # The checkpoint holds this list, too. A run that is killed before the removal removes them after its resume.
        self._remember(runner, ids, outdated)
        try:
            runner.save_checkpoint(self.out_dir, name, meta=meta, write=self._write, **options)
        except OSError:
            self.last_ckpt, ids, self._outdated = former
            self._remember(runner, ids, self._outdated)
            raise
        self._outdated = self._outdated if is_main_process() else []
        self.keep_ckpt_ids = deque(ids)

    def _remember(self, runner: Runner, ids: list[int], outdated: list[str]) -> None:
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        if self.max_keep_ckpts > 0:
            runner.message_hub.update_info('keep_ckpt_ids', ids)
            runner.message_hub.update_info('outdated_ckpts', outdated)

    def _write(self, path: str, checkpoint: dict[str, Any]) -> None:
        """On the first rank: write the file, then name it the last, then remove the outdated ones."""
        outdated, self._outdated = self._outdated, []
        self._writer.run(
            partial(self._write_and_clean, path, checkpoint, outdated), partial(setattr, self, '_outdated', outdated)
        )

    def _write_and_clean(self, path: str, checkpoint: dict[str, Any], outdated: list[str]) -> None:
        write_checkpoint(path, checkpoint)
        # Like mmengine, in the work dir, even if the checkpoints are in another folder.
        write_last_checkpoint(self._work_dir, path)
        for name in outdated:
            if name != os.path.basename(path):
                remove_checkpoint(os.path.join(self.out_dir, name))


def save_now(runner: Runner, reason: str) -> str:
    """Save a checkpoint of the iteration just done, from which the run can be resumed; all ranks call it.

    Args:
        runner: The run.
        reason: Why the checkpoint is saved, for the log, for example ``'SIGTERM'``.

    Returns:
        Path of the checkpoint.

    Raises:
        OSError: On all ranks, if it cannot be written.
        RuntimeError: If the config has no ``ReliableCheckpointHook``.
    """
    hooks = [hook for hook in runner.hooks if isinstance(hook, ReliableCheckpointHook)]
    if not hooks:
        raise RuntimeError(
            'The run cannot be saved: default_hooks.checkpoint is no ReliableCheckpointHook, as in default_runtime.'
        )
    return hooks[0].save_now(_reliable(runner), reason)


def _reliable(runner: Runner) -> ReliableRunner:
    if not isinstance(runner, ReliableRunner):
        raise TypeError(
            f'ReliableCheckpointHook saves what a ReliableRunner knows, but the runner is a {type(runner).__name__}: '
            'build it with mmmaskclip.engine.ReliableRunner.from_cfg(cfg), as tools/train.py does.'
        )
    return runner
