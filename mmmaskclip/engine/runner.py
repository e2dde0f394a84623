"""The Runner of every run; an interrupted run resumes exactly."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.logging import MessageHub, print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from mmengine.visualization import Visualizer
from torch.utils.data import DataLoader

from mmmaskclip.checkpoints.downloads import local_path
from mmmaskclip.checkpoints.files import plain, write_checkpoint
from mmmaskclip.checkpoints.mmengine_loading import use_safe_loading
from mmmaskclip.checkpoints.safe_load import read_checkpoint, state_dict_of
from mmmaskclip.checkpoints.weights import load_what_fits
from mmmaskclip.contracts import Described
from mmmaskclip.engine.distributed.activation_checkpointing import turn_on_activation_checkpointing
from mmmaskclip.engine.resume_check import check_resume, measure
from mmmaskclip.engine.run_state import (
    config_fingerprint,
    config_fingerprints,
    differences,
    get_random_state,
    set_random_state,
    versions,
)
from mmmaskclip.engine.start_checks import check_class_names, check_start
from mmmaskclip.registry import RUNNERS
from mmmaskclip.utils.disk import DISK_FULL
from mmmaskclip.utils.distributed import raise_everywhere

_META = 'mmmaskclip'
_RANDOM = 'random_states'
# Number of values that each history of the log keeps.
_HISTORY = 10_000


@RUNNERS.register_module()
class ReliableRunner(Runner):
    """mmengine's Runner with exact resume: a resumed run equals an uninterrupted one.

    Besides mmengine's content, a checkpoint holds the random states of every rank (Python, numpy, torch, its GPU), the
    position in the data and fingerprints of the config. :mod:`mmmaskclip.checkpoints.files` writes it atomically, with
    a checksum, and reads it without running code from it. The generators of the workers are not saved: the datasets of
    mmmaskclip seed every sample by itself.

    The random states depend on the training iterations alone. Therefore loaders draw the seeds of their workers from
    generators of their own, and a validation restores the random states.

    ``meta['mmmaskclip']`` of a checkpoint has what :func:`~mmmaskclip.engine.resume_check.measure` returns,
    ``samples_seen`` (of all ranks), ``seed``, ``config_fingerprint``, ``config_parts`` and ``versions``.
    """

    _load_from: str | None
    _resume: bool
    _random_before_val: dict[str, Any] | None = None
    _random_to_restore: dict[str, Any] | None = None
    _resumed: dict[str, Any] | None = None
    _resuming = False
    _in_iteration = False
    # Samples and iterations at the last resume. Iterations before it may have had another batch size.
    _samples_before, _iterations_before = 0, 0

    @property
    def iterations_done(self) -> int:
        """Number of iterations that have changed the model, including the one whose hooks are running."""
        return self.iter + self._in_iteration

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register hooks by their names. None leaves a hook out; mmengine allows it for its own hooks alone."""
        of_mmengine = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
        hooks = {name: hook for name, hook in (hooks or {}).items() if hook is not None or name in of_mmengine}
        super().register_default_hooks(hooks)

    @property
    def at_step_boundary(self) -> bool:
        """Whether the last iteration ended with an optimizer step; between two steps a checkpoint loses gradients."""
        # With several optimizers the model steps them, and only the model knows when.
        return isinstance(self.optim_wrapper, OptimWrapperDict) or self.optim_wrapper.should_update()

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call the hooks; restore the random states before the first epoch and after a validation."""
        if fn_name == 'before_train_epoch' and self._random_to_restore is not None:
            # Here, because everything that draws random numbers only at a start is done, and no sample is loaded yet.
            set_random_state(self._random_to_restore)
            self._random_to_restore = None
        elif fn_name == 'before_train':
            check_class_names(self, self.train_dataloader)
            check_start(self)
        elif fn_name == 'before_val':
            check_class_names(self, self.val_dataloader)
            self._random_before_val = get_random_state()
        elif fn_name == 'before_test':
            check_class_names(self, self.test_dataloader)
        elif fn_name == 'after_train_iter':
            self._in_iteration = True
        try:
            super().call_hook(fn_name, **kwargs)
        finally:
            if fn_name == 'after_train_iter':
                self._in_iteration = False
        if fn_name == 'after_val' and self._random_before_val is not None:
            set_random_state(self._random_before_val)
            self._random_before_val = None

    def build_model(self, model: torch.nn.Module | dict) -> torch.nn.Module:
        """Build the model. Its parts may load weights themselves; from now on only through the safe reader."""
        use_safe_loading()
        return super().build_model(model)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a loader with its own generator. Otherwise it would draw from torch's generator in every epoch."""
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if isinstance(dataloader, dict) and loader.generator is None:
            loader.generator = torch.Generator().manual_seed(seed or 0)
        return loader

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build a visualizer that drops values while the disk is full. mmengine's own would end the run."""
        built = super().build_visualizer(visualizer)
        for name in ('add_scalars', 'close'):
            setattr(built, name, partial(_write_if_there_is_space, getattr(built, name)))
        return built

    def load_or_resume(self) -> None:
        """Load or resume the checkpoint that rank 0 has chosen, because each rank has searched for the newest one."""
        chosen = [(self._load_from, self._resume)]
        broadcast_object_list(chosen)
        here, (self._load_from, self._resume) = (self._load_from, self._resume), chosen[0]
        if here != chosen[0]:
            print_log(
                f'Rank {self.rank} has load_from and resume {here}, rank 0 has {chosen[0]}, which all ranks use. Is '
                f'{self.work_dir} the same folder on all nodes?',
                logger='current',
                level=logging.WARNING,
            )
        super().load_or_resume()

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: list = [(r'^module.', '')],  # noqa: B006 - as in the base class
    ) -> dict[str, Any]:
        """Load the weights of a checkpoint, without running code from it.

        Args:
            filename: A checkpoint of this package, or a CLIP of OpenAI, OpenCLIP or Hugging Face; a path or an
                ``https://`` address.
            map_location: Unused: tensors come from the CPU, so that the device need not hold them twice.
            strict: Refuse missing and unknown weights. Defaults to False: the log lists the missing ones.
            revise_keys: (pattern, replacement) for names of the weights.

        Returns:
            The checkpoint.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged or names code to run, or if no weight of the model, or of one of its
                towers, fits; see :func:`~mmmaskclip.checkpoints.weights.load_what_fits`.
            RuntimeError: If the weights do not fit, and ``strict`` is set or the run is resumed.
        """
        checkpoint = _read(filename)
        if self._resuming:
            _check_complete(filename, checkpoint)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        if strict or self._resuming:
            _load_checkpoint_to_model(model, checkpoint, strict=True, revise_keys=revise_keys)
            self.logger.info(f'All {len(checkpoint["state_dict"])} tensors loaded from {filename!r}')
        else:
            state_dict = state_dict_of(checkpoint, filename)
            for pattern, replacement in revise_keys:
                state_dict = {re.sub(pattern, replacement, name): value for name, value in state_dict.items()}
            load_what_fits(model, state_dict, local_path(filename))
        self._has_loaded = True
        self._resumed = checkpoint if self._resuming else None
        return checkpoint

    @classmethod
    def from_cfg(cls, cfg: Config | ConfigDict | dict) -> ReliableRunner:
        """Build a Runner. A second Runner of the same name waits for the next second."""
        # mmengine names a run by the second of its start. Two runs of one name in one process would share their log.
        stem = cfg.get('experiment_name') or Path((cfg.filename if isinstance(cfg, Config) else None) or '').stem
        while MessageHub.check_instance_created(f'{stem}_{time.strftime("%Y%m%d_%H%M%S")}'.lstrip('_')):
            time.sleep(0.05)
        return super().from_cfg(cfg)

    def train(self) -> torch.nn.Module:
        """Train. ``turn_on_activation_checkpointing`` handles the config's ``activation_checkpointing``."""
        # mmengine's checkpointing is reentrant, which DDP refuses if a block runs in two passes of one step.
        if modules := self.cfg.pop('activation_checkpointing', None):
            model = self.model.module if is_model_wrapper(self.model) else self.model
            turn_on_activation_checkpointing(model, modules)
        return super().train()

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = 'cpu',
    ) -> None:
        """Continue exactly where a checkpoint was saved.

        Args:
            filename: The checkpoint.
            resume_optimizer: Load the optimizer too. Defaults to True.
            resume_param_scheduler: Load the schedules too. Defaults to True.
            map_location: Unused, see :meth:`load_checkpoint`.

        Raises:
            RuntimeError: If the checkpoint's weights do not fit the model.
            ValueError: If the checkpoint holds only weights. See also :meth:`load_checkpoint`.
        """
        self._resuming = True
        try:
            super().resume(filename, resume_optimizer, resume_param_scheduler, map_location)
        finally:
            self._resuming = False
        checkpoint, self._resumed = self._resumed, None
        assert checkpoint is not None
        meta = checkpoint['meta'].get(_META)
        if meta is None:
            self.logger.warning(
                f"{filename} is of mmengine's own Runner and holds no random states. The run resumes, but drop path "
                'and dropout draw other numbers than in an uninterrupted run. The file does not hold its batch size '
                'and number of processes, so keep both as they were.'
            )
            return
        for text in differences(filename, meta, self.cfg):
            self.logger.warning(text)
        check_resume(meta, self.train_loop)
        self._samples_before, self._iterations_before = meta['samples_seen'], self.iter
        states = checkpoint[_RANDOM]
        if len(states) == self.world_size:
            self._random_to_restore = states[self.rank]

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
        write: Callable[[str, dict], None] = write_checkpoint,
    ) -> None:
        """Save a checkpoint; all ranks call it, and the first writes.

        Args:
            out_dir: Folder to write into.
            filename: Name of the file in the folder.
            file_client_args: Must be None, because checkpoints are written to folders only.
            save_optimizer: Save the optimizer, too. Defaults to True.
            save_param_scheduler: Save the schedules, too. Defaults to True.
            meta: Entries of ``meta``. Its ``epoch`` and ``iter`` say where a resumed run continues.
            by_epoch: If ``meta`` has neither: whether this is the end of an epoch, not of an iteration. Defaults to
                True.
            backend_args: Must be None.
            write: Called on the first rank with path and checkpoint. Defaults to
                :func:`~mmmaskclip.checkpoints.files.write_checkpoint`.

        Raises:
            OSError: On all ranks, if the file cannot be written, for example because the disk is full.
            ValueError: If a storage backend is asked for.
        """
        if file_client_args or backend_args:
            raise ValueError(
                f'backend_args={backend_args or file_client_args}: checkpoints are written to folders only. Mount the '
                'storage, and leave backend_args out.'
            )
        if meta is None:
            meta = {}
        meta.setdefault('epoch', self.epoch + 1 if by_epoch else self.epoch)
        meta.setdefault('iter', self.iter if by_epoch else self.iter + 1)
        checkpoint = self._collect(meta, save_optimizer, save_param_scheduler)
        error: Exception | None = None
        if is_main_process():
            try:
                self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
                write(os.path.join(out_dir, filename), self._plain(checkpoint))
            except Exception as problem:  # raised below on every rank, so that none waits for another
                error = problem
        raise_everywhere(error)

    def _model_state(self) -> dict[str, Any]:
        """Parameters and buffers of the whole model; all ranks call it."""
        return (self.model.module if is_model_wrapper(self.model) else self.model).state_dict()

    def _optimizer_state(self) -> dict[str, Any]:
        """State of the optimizer of the whole model; all ranks call it."""
        return self.optim_wrapper.state_dict()

    def _collect(self, meta: dict[str, Any], save_optimizer: bool, save_param_scheduler: bool) -> dict[str, Any]:
        """Everything that a checkpoint holds, not copied yet."""
        for history in self.message_hub.log_scalars.values():
            # mmengine's hooks append to the histories in every iteration, and each append copies the whole history.
            history.max_length = _HISTORY
        meta.update(
            cfg=self.cfg.pretty_text,
            seed=self.seed,
            experiment_name=self.experiment_name,
            mmengine_version=versions()['mmengine'],
            **{_META: self._describe(meta['iter'])},
        )
        if isinstance(dataset := self.train_dataloader.dataset, Described):
            meta['dataset_meta'] = dataset.metainfo
        # A run resumed from a checkpoint that a validation saved continues after that validation. So the random states
        # in it are those from before the validation.
        checkpoint = {
            'meta': meta,
            'state_dict': self._model_state(),
            'message_hub': self.message_hub.state_dict(),
            _RANDOM: all_gather_object(self._random_before_val or get_random_state()),
        }
        if save_optimizer:
            checkpoint['optimizer'] = self._optimizer_state()
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint['param_schedulers'] = (
                {name: [one.state_dict() for one in several] for name, several in self.param_schedulers.items()}
                if isinstance(self.param_schedulers, dict)
                else [one.state_dict() for one in self.param_schedulers]
            )
        return checkpoint

    def _describe(self, iterations: int) -> dict[str, Any]:
        sizes = measure(self.train_loop)
        since = (iterations - self._iterations_before) * (sizes['batch_size'] or 1) * self.world_size
        parts = config_fingerprints(self.cfg)
        return {
            **sizes,
            'samples_seen': self._samples_before + since,
            'seed': self.seed,
            'config_fingerprint': config_fingerprint(parts),
            'config_parts': parts,
            'versions': versions(),
        }

    def _plain(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        left_out: list[str] = []
        copied = plain(checkpoint, left_out)
        if left_out:
            self.logger.warning(
                f'Left out of the checkpoint, because reading them could run code: {", ".join(left_out[:5])}'
            )
        return copied


def _write_if_there_is_space(write: Callable[..., None], *args, **kwargs) -> None:
    # Not a method: the visualizer outlives the Runner and must not keep a reference to it.
    try:
        write(*args, **kwargs)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        text = f'The files of the log could not be written: {error}. The run continues; free some space.'
        print_log(text, logger='current', level=logging.ERROR)


def _check_complete(filename: str, checkpoint: dict[str, Any]) -> None:
    meta = checkpoint.get('meta')
    absent = [key for key in ('state_dict', 'optimizer', 'message_hub') if key not in checkpoint]
    absent += [f'meta.{key}' for key in ('epoch', 'iter') if not isinstance(meta, dict) or key not in meta]
    if absent:
        raise ValueError(
            f'{filename!r} has no {", ".join(absent)}: a run cannot be resumed from it. Start one from its weights, '
            f'with load_from={filename!r} and without --resume.'
        )


def _read(filename: str) -> dict[str, Any]:
    path = local_path(filename)
    checkpoint = read_checkpoint(path)
    if 'state_dict' not in checkpoint:
        checkpoint = {'state_dict': state_dict_of(checkpoint, path), 'meta': {}}
    if isinstance(checkpoint.get('meta'), dict):
        # mmengine would execute this text as a config in Python.
        checkpoint['meta'].pop('config', None)
    return checkpoint
