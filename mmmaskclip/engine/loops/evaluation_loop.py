"""Evaluates several tasks in one run, for validation during training and for ``tools/test.py``."""

import logging
from collections.abc import Iterator, Mapping, Sized
from typing import Any, cast

import torch
from mmengine.dist import all_gather_object
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop
from torch.utils.data import DataLoader

from mmmaskclip.contracts import ChecksData, Described, PreparedMetric, SelfPredictingMetric
from mmmaskclip.datasets.evaluation.labelled_images import MissingImages
from mmmaskclip.evaluation.converted_images import ConvertedImages
from mmmaskclip.registry import LOOPS
from mmmaskclip.utils.nearest import did_you_mean
from mmmaskclip.utils.progress import track
from mmmaskclip.utils.store import together


class _AllBatches:
    """All dataloaders in place of the loop's one. mmengine's hooks compute the remaining time from its length."""

    def __init__(self, loaders: Mapping[str, DataLoader]) -> None:
        self.loaders = loaders

    def __len__(self) -> int:
        return sum(len(loader) for loader in self.loaders.values())

    def __iter__(self) -> Iterator[Any]:
        for loader in self.loaders.values():
            yield from loader


def facts_of(dataset: Any) -> Mapping[str, Any] | None:
    """The facts that a dataset states about itself, such as the names of its classes; None where it states none."""
    return dataset.metainfo if isinstance(dataset, Described) else None


def compare_tasks(dataloaders: Mapping[str, Any], evaluators: Any, prefix: str = '') -> Iterator[str]:
    """Say which tasks have no dataloader or no evaluator; nothing if every task has both.

    Args:
        dataloaders: Dataloaders or their configs, by task.
        evaluators: Evaluators or their configs, by task; anything else is an error.
        prefix: Put before ``dataloader`` and ``evaluator`` in the sentences, e.g. ``'val_'``. Nothing by default.
    """
    if not isinstance(evaluators, Mapping) or 'type' in evaluators:
        tasks = ', '.join(map(str, dataloaders))
        what = 'single evaluator' if isinstance(evaluators, Mapping) else type(evaluators).__name__
        yield f'{prefix}evaluator: expected a dict with one for each of the tasks {tasks}, found a {what}.'
        return
    for name in sorted({*dataloaders} ^ {*evaluators}):
        missing, others = ('evaluator', evaluators) if name in dataloaders else ('dataloader', dataloaders)
        yield f'{prefix}{missing}: there is none for the task {name!r}.{did_you_mean(name, others, cutoff=0.5)}'


@LOOPS.register_module()
class EvaluationLoop(BaseLoop):
    """Evaluates a model on several tasks in one run; serves as ``val_cfg`` and as ``test_cfg``.

    ``val_dataloader = dict(retrieval=dict(...), classification=dict(...))`` with ``val_evaluator = dict(retrieval=...,
    classification=...)``: each task has a dataloader and a metric (or a list of metrics). The task's name is the prefix
    of a metric without prefix: ``retrieval/image_to_text_R@1``. mmengine's form, one dataloader and one evaluator,
    works too.

    A metric with ``prepare(model)`` gets the unwrapped model before its task starts. If no metric of a task uses the
    model's predictions (``needs_predictions = False``, the probes), the model makes none: no image is encoded twice.
    Several processes share the samples and give the result of one process: mmengine restores the order of the results
    and drops the samples that a sampler added to fill the last batch.

    Args:
        runner: The runner.
        dataloader: Dataloader or its config; or a dict of them by task.
        evaluator: Metric configs or an ``Evaluator``; or a dict of them by task.
        skip_missing: Leave out, with a warning, the tasks whose data set raises ``MissingImages`` on any process.
            Without any task left the loop does nothing. Defaults to False: an error.

    Raises:
        MissingImages: If the images of a task are not there, and ``skip_missing`` is not set.
        ValueError: If dataloaders and evaluators do not name the same tasks, or a metric does not fit its data set.
    """

    def __init__(self, runner: Any, dataloader: Any, evaluator: Any, skip_missing: bool = False) -> None:
        if isinstance(dataloader, DataLoader) or 'dataset' in dataloader:
            dataloader, evaluator = {'': dataloader}, {'': evaluator}
        if problems := list(compare_tasks(dataloader, evaluator)):
            raise ValueError(' '.join(problems))
        self.dataloaders: dict[str, DataLoader] = {}
        self.evaluators: dict[str, Evaluator] = {}
        for task, cfg in dataloader.items():
            missing = ''
            try:
                self.dataloaders[task] = self._build_dataloader(runner, cfg)
                self.evaluators[task] = self._build_evaluator(runner, task, evaluator[task])
                self._introduce(task)
            except MissingImages as error:
                if not skip_missing:
                    raise
                missing = str(error)
            if skip_missing and (reason := next(filter(None, all_gather_object(missing)), '')):
                self.dataloaders.pop(task, None)
                self.evaluators.pop(task, None)
                print_log(f'Not evaluated: {task}. {reason}', logger='current', level=logging.WARNING)
        super().__init__(runner, _AllBatches(self.dataloaders))

    def _introduce(self, task: str) -> None:
        """Tell the metrics of a task about its data set, and let them check it: a mistake costs no encoding."""
        dataset = self.dataloaders[task].dataset
        self.evaluators[task].dataset_meta = facts_of(dataset)
        for metric in self.evaluators[task].metrics:
            if isinstance(metric, ChecksData):
                metric.check_data(dataset)

    @staticmethod
    def _build_dataloader(runner: Any, cfg: Any) -> DataLoader:
        diff_rank_seed = runner._randomness_cfg.get('diff_rank_seed', False)
        return runner.build_dataloader(cfg, seed=runner.seed, diff_rank_seed=diff_rank_seed)

    @staticmethod
    def _build_evaluator(runner: Any, task: str, cfg: Any) -> Evaluator:
        if isinstance(cfg, Evaluator):
            return cfg
        metrics = cfg if isinstance(cfg, (list, tuple)) else [cfg]
        if task:
            metrics = [{'prefix': task, **metric} if isinstance(metric, Mapping) else metric for metric in metrics]
        return runner.build_evaluator(list(metrics))

    @property
    def mode(self) -> str:
        """``'test'`` if this is the runner's test loop, else ``'val'``. The mode decides which hooks are called."""
        # The runner builds test and validation loops with the same arguments, so the loop asks the runner.
        return 'test' if self.runner._test_loop is self else 'val'

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Run all tasks.

        Returns:
            All metrics by name, on every process.
        """
        mode, model = self.mode, self.runner.model
        if not self.dataloaders:
            return {}
        was_training = model.training
        self.runner.call_hook(f'before_{mode}')
        # Before the first forward pass: hooks may swap in EMA weights here.
        self.runner.call_hook(f'before_{mode}_epoch')
        model.eval()
        metrics: dict[str, float] = {}
        done = 0
        for number, (task, loader) in enumerate(self.dataloaders.items(), 1):
            dataset = cast(Sized, loader.dataset)
            print_log(
                f'Evaluating {task or "the model"} ({number} of {len(self.dataloaders)}): {len(dataset)} '
                f'samples, {len(loader)} batches',
                logger='current',
            )
            self._run_task(task, loader, mode, done)
            done += len(loader)
            metrics.update(self.evaluators[task].evaluate(len(dataset)))
        self.runner.call_hook(f'after_{mode}_epoch', metrics=metrics)
        self.runner.call_hook(f'after_{mode}')
        model.train(was_training)
        return metrics

    def _run_task(self, task: str, loader: DataLoader, mode: str, done: int) -> None:
        model, evaluator = self.runner.model, self.evaluators[task]
        bare = model.module if is_model_wrapper(model) else model
        for metric in evaluator.metrics:
            if isinstance(metric, PreparedMetric):
                metric.prepare(bare)
        step = model.test_step if mode == 'test' else model.val_step
        needs_predictions = any(
            not isinstance(metric, SelfPredictingMetric) or metric.needs_predictions for metric in evaluator.metrics
        )
        converted = ConvertedImages()
        # Batches are numbered over all tasks, so that progress and remaining time cover the whole evaluation.
        # All processes wait on the store for one with slow disks. A collective would run into its timeout.
        with together(f'evaluating {task}'.strip()):
            for batch_idx, data_batch in enumerate(track(loader, f'Evaluating {task}'), done):
                self.runner.call_hook(f'before_{mode}_iter', batch_idx=batch_idx, data_batch=data_batch)
                outputs = step(data_batch) if needs_predictions else []
                evaluator.process(data_samples=outputs, data_batch=data_batch)
                converted.add(data_batch)
                self.runner.call_hook(f'after_{mode}_iter', batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
        converted.report(task or 'Evaluation', len(cast(Sized, loader.dataset)))
