"""The time that runner and hooks take of each iteration, measured with a model that computes almost nothing."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from mmmaskclip.engine import ReliableRunner
from mmmaskclip.registry import DATASETS, FUNCTIONS, MODELS

_RUN_ITER, _TRAIN_STEP = 'iteration', 'model and optimizer'


@MODELS.register_module()
class ModelWithoutWork(BaseModel):
    """One small layer, with what a pretraining's hooks ask of a model."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor, mode: str = 'loss', **_: Any) -> dict[str, Tensor]:
        """One loss of a batch (B, 4)."""
        return {'contrastive_loss': self.layer(image).square().mean() * self.logit_scale.exp()}

    def set_progress(self, progress: float) -> None:
        """Take the share of the run that is done."""

    def after_optimizer_step(self) -> None:
        """Take note of a step."""

    def logged(self) -> dict[str, Any]:
        """Scalars as those of MaskCLIP."""
        return {'temperature': torch.tensor(0.07), 'teacher_momentum': 0.999}


@DATASETS.register_module()
class BatchesWithoutWork(IterableDataset):
    """Samples of which a batch is made at once, for ever."""

    metainfo: ClassVar[dict[str, Any]] = {}

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def begin_epoch(self, epoch: int, seed: int, batch_size: int, start_batch: int = 0) -> None:
        """All samples are equal."""

    def __iter__(self) -> Iterator[int]:
        yield from range(self._length)


@FUNCTIONS.register_module()
def batch_without_work(samples: list[int]) -> dict[str, Any]:
    """A batch of names, without images."""
    return {'image': torch.ones(2, 4), 'key': [f'00000.tar/{i:09d}' for i in samples], 'skipped': []}


class _Done(Exception):
    pass


class _Watch(Hook):
    """Jumps from one iteration to another, whose histories it makes up, and ends the run."""

    priority = 'LOWEST'

    def __init__(self, clock: _Clock, count: int, later: int) -> None:
        self._clock, self._count, self._later = clock, count, later

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if batch_idx + 1 == 2 * self._count:
            raise _Done
        if batch_idx + 1 == self._count:
            done = runner.iter + 1
            for history in runner.message_hub.log_scalars.values():
                values = np.resize(history._log_history, round(len(history._log_history) * self._later / done))
                history._log_history, history._count_history = values, np.ones_like(values)
            runner.train_loop._iter = self._later
            self._clock.next_phase()


class _Clock:
    """Seconds of CPU time of this thread in named calls, by iteration."""

    def __init__(self) -> None:
        self.phases: list[dict[str, list[float]]] = [defaultdict(list)]
        self._pending = False

    def next_phase(self) -> None:
        self._pending = True

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Time the calls of a method from now on."""
        call: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.phases[-1][name].append(time.thread_time() - begin)
                if name == _RUN_ITER and self._pending:
                    # Here, because an iteration is whole where the phases change.
                    self.phases.append(defaultdict(list))
                    self._pending = False

        setattr(owner, method, timed)


def without_work(cfg: Config, work_dir: str, length: int) -> Config:
    """A config with the hooks, logger, optimizer and schedules of another one, a trivial model, and nothing to load."""
    cfg = Config(cfg.to_dict())
    for key in ('val_dataloader', 'val_evaluator', 'val_cfg', 'test_dataloader', 'test_evaluator', 'test_cfg'):
        cfg[key] = None
    cfg.model = dict(type='ModelWithoutWork')
    batch_size = cfg.train_dataloader.batch_size
    cfg.train_dataloader = dict(
        batch_size=batch_size,
        num_workers=0,
        dataset=dict(type='BatchesWithoutWork', length=length * batch_size),
        collate_fn=dict(type='mmmaskclip.batch_without_work'),
    )
    # As many epochs as the config's, because schedules may count them.
    cfg.train_cfg = dict(type='PretrainLoop', max_epochs=cfg.train_cfg.max_epochs)
    cfg.load_from, cfg.resume, cfg.launcher, cfg.work_dir = None, False, 'none', work_dir
    return cfg


def measure_host_time(cfg: Config, work_dir: str, count: int, later: int) -> list[dict[str, float]]:
    """Train a trivial model with a config's hooks, and time what is not the model.

    Args:
        cfg: A pretraining config.
        work_dir: Folder of the run.
        count: Iterations to time from the first on, and again from ``later`` on.
        later: An iteration at which the histories of the log are as long as a run's that came so far.

    Returns:
        For the first and for the later iterations: milliseconds of CPU time of the main thread per iteration, means, by
        hook, ``rest`` of the loop, and ``sum`` of both; ``median`` of the sum over the iterations, most of which log
        nothing.
    """
    runner = ReliableRunner.from_cfg(without_work(cfg, work_dir, later + 2 * count))
    clock = _Clock()
    runner.register_hook(_Watch(clock, count, later))
    loop = runner._train_loop = runner.build_train_loop(runner._train_loop)
    for hook in runner.hooks:
        for method in ('before_train_iter', 'after_train_iter'):
            clock.wrap(hook, method, type(hook).__name__)
    clock.wrap(loop, 'run_iter', _RUN_ITER)
    clock.wrap(runner.model, 'train_step', _TRAIN_STEP)
    with suppress(_Done):
        runner.train()
    return [_means(phase) for phase in clock.phases]


def _means(phase: dict[str, list[float]]) -> dict[str, float]:
    whole = [1e3 * (all_of - step) for all_of, step in zip(phase[_RUN_ITER], phase[_TRAIN_STEP], strict=False)]
    names = [name for name in phase if name not in (_RUN_ITER, _TRAIN_STEP, '_Watch')]
    hooks = {name: 1e3 * sum(phase[name]) / len(whole) for name in names}
    total = statistics.fmean(whole) - 1e3 * sum(phase['_Watch']) / len(whole)
    ranked = dict(sorted(hooks.items(), key=lambda item: -item[1]))
    return {**ranked, 'rest': total - sum(hooks.values()), 'sum': total, 'median': statistics.median(whole)}
