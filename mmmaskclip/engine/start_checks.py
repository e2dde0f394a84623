"""Checks at the start of a run: warnings about a run that trains, but probably not as intended."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size
from mmengine.model import is_model_wrapper
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmmaskclip.datasets.prompts import ClassPrompts, NamesClasses
from mmmaskclip.engine.loops.evaluation_loop import EvaluationLoop, facts_of
from mmmaskclip.engine.resume_check import measure
from mmmaskclip.engine.run_state import config_fingerprints
from mmmaskclip.models.pretrainers import ImageTextPretrainer
from mmmaskclip.startup.processes import describe_start
from mmmaskclip.utils.store import compare_ranks, own_store

# A run of at least so many iterations, some hours on GPUs, should have a validation.
_LONG = 10_000
_NUMBERED = re.compile(r'(iter|epoch)_(\d+)\.pth')


def check_start(runner: Runner) -> None:
    """Log the machine's limits and warnings for the user, and compare the run on all ranks. Collective.

    Args:
        runner: A runner that has built everything and, if it resumes, loaded the checkpoint.

    Raises:
        RuntimeError: On all ranks, if config, learning rates, iteration or length of the epoch differ between them.
    """
    about, *short = describe_start(runner.cfg)
    runner.logger.info(f'Machine of rank 0: {about}.')
    if os.environ.get('LOCAL_RANK', '0') == '0':
        for text in short:  # as errors on other machines, whose loggers write errors only
            runner.logger.log(logging.ERROR if runner.rank else logging.WARNING, text)
    for text in [*_schedules_of_another_length(runner), *_other_global_batch(runner), *_not_validated(runner)]:
        runner.logger.warning(text)
    store = own_store()
    if store is not None and runner.world_size > 1:
        facts = {f'config {key}': value for key, value in config_fingerprints(runner.cfg).items()}
        facts |= {'learning rates': str(runner.optim_wrapper.get_lr()), 'iteration': str(runner.iter)}
        facts |= {name: str(value) for name, value in measure(runner.train_loop).items()}
        compare_ranks(facts, 'before the first step', store, runner.rank, runner.world_size)


def check_class_names(runner: Runner, loader: Any) -> None:
    """Compare the class names that a part of the model embeds with those of the data.

    Args:
        runner: The runner.
        loader: The loader of the loop that begins. If several tasks have a loader each, this function compares nothing:
            the tasks' metrics compare the names themselves.

    Raises:
        ValueError: If the numbers of classes differ, or a name has another index.
    """
    facts = facts_of(loader.dataset) if isinstance(loader, DataLoader) else None
    names: Sequence[str] = (facts or {}).get('classes') or ()
    for part in runner.model.modules() if names else ():
        if isinstance(part, NamesClasses) and isinstance(part.prompts, ClassPrompts):
            part.prompts.check_order(names, type(part).__name__)


def describe_others(folder: str | os.PathLike, iteration: int, epoch: int = 0) -> str:
    """A warning about checkpoints of another run in the folder where this run saves; empty if there are none.

    Args:
        folder: Folder where the run saves.
        iteration: Iteration at which the run starts; 0 for a fresh run, to which no old checkpoint belongs.
        epoch: Number of epochs that have ended by then.
    """
    matches = [match for path in Path(folder).glob('*.pth') if (match := _NUMBERED.fullmatch(path.name))]
    numbers = {match[0]: int(match[2]) for match in sorted(matches, key=lambda match: int(match[2]), reverse=True)}
    others = [name for name, number in numbers.items() if not iteration or number > (iteration, epoch)[name[0] == 'e']]
    if not others:
        return ''
    names = ', '.join(others[:3]) + (', ...' if len(others) > 3 else '')
    start = f'resumed at iteration {iteration}' if iteration else 'starts afresh'
    remedy = (
        'the checkpoints saved from now on are newer than they, and they are never removed'
        if iteration
        else 'until this run has saved one, --resume would take theirs. Use another --work-dir, or remove them'
    )
    return f'{folder} holds {len(others)} checkpoints of another run ({names}), but this run {start}: {remedy}.'


def _schedules_of_another_length(runner: Runner) -> list[str]:
    built = runner.param_schedulers or []
    schedules = built if isinstance(built, list) else [one for several in built.values() for one in several]
    ends: dict[tuple[str, bool], int] = {}
    for schedule in schedules:
        if isinstance(schedule, _ParamScheduler):
            key = schedule.param_name, schedule.by_epoch
            ends[key] = max(ends.get(key, 0), schedule.end)
    texts = []
    for (name, by_epoch), end in ends.items():
        length, unit = (runner.max_epochs, 'epoch') if by_epoch else (runner.max_iters, 'iteration')
        if end in (length, INF) or end > INF // 2:
            continue
        consequence = f'{name} keeps its last value from there on' if end < length else f'{name} never reaches its end'
        texts.append(
            f'The schedules of {name} end at {unit} {end}, but the run ends at {unit} {length}: {consequence}. '
            'Change param_scheduler together with train_cfg.max_epochs, or leave both as they were.'
        )
    return texts


def _not_validated(runner: Runner) -> list[str]:
    loop = runner.val_loop
    nothing = loop is None or (isinstance(loop, EvaluationLoop) and not loop.dataloaders)
    if not nothing or runner.max_iters < _LONG:
        return []
    return [
        f'Nothing validates this run of {runner.max_iters} iterations: a collapse would be seen only in the loss. Give '
        'it val_dataloader, val_evaluator, val_cfg and train_cfg.val_interval_iters: docs/evaluation.md, "While '
        'training", shows retrieval and zero-shot tasks.'
    ]


def _other_global_batch(runner: Runner) -> list[str]:
    scaling: dict[str, Any] = runner.cfg.get('auto_scale_lr') or {}
    recipe = scaling.get('base_batch_size')
    sizes = measure(runner.train_loop)
    per_process, accumulated = sizes['batch_size'] or 1, sizes['accumulative_counts']
    batch = get_world_size() * per_process * accumulated
    if recipe is None or batch == recipe:
        return []
    needed = recipe / (get_world_size() * accumulated)
    rate = (
        'The learning rate is scaled (auto_scale_lr.enable); momentum of the EMA teacher and number of steps are not'
        if scaling.get('enable')
        else 'Learning rate, momentum of the EMA teacher and number of steps are those of the larger or smaller batch'
    )
    remedy = f'set train_dataloader.batch_size={needed:.0f}' if needed == int(needed) else 'use other numbers'
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if needed > per_process and isinstance(model, ImageTextPretrainer):
        remedy += f' with model.micro_batch_size={per_process}, which needs the memory of {per_process} samples'
    return [
        f'The global batch is {batch} = {get_world_size()} processes x batch_size {per_process} x accumulative_counts '
        f'{accumulated}, but the recipe is made for {recipe} (auto_scale_lr.base_batch_size). {rate}, and a '
        f'contrastive loss compares {get_world_size() * per_process} pairs. To train the recipe: {remedy}.'
    ]
