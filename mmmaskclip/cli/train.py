"""``mmmaskclip-train`` and ``tools/train.py``: run the training of a config."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmmaskclip.cli.config import add_config_arguments, load_config, run_command
from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.startup.collector import paused_collector

if TYPE_CHECKING:
    from mmengine.config import Config

    from mmmaskclip.engine import ReliableRunner


def command() -> None:
    """Entry point of ``mmmaskclip-train``."""
    run_command(main)


def main(argv: Sequence[str] | None = None) -> None:
    """Train.

    Args:
        argv: The command line. Defaults to this process's.

    Raises:
        ConfigMistake: If something in the config or on the command line is wrong; nothing was started then.
        SystemExit: If a signal ended the run after everything was saved; see ``utils/exit_codes.py``.
    """
    args = parse_args(argv)
    # Local imports: they load torch and the toolboxes, for which --help should not wait.
    with paused_collector():
        cfg = load_config(args)
        import mmmaskclip.engine  # noqa: F401
    check_trains(cfg, args.config)
    if args.amp:
        set_precision(cfg, args.amp)

    from mmmaskclip.cli.paths import check_paths
    from mmmaskclip.cli.resume import set_resume_on_all_ranks
    from mmmaskclip.startup.processes import leave_processes, setup_processes

    resume = args.resume or (cfg.get('resume') and (cfg.get('load_from') or 'auto'))
    if not resume:
        check_paths(cfg)
    setup_processes(cfg)
    note = None
    if resume:
        note = set_resume_on_all_ranks(cfg, resume)
        check_paths(cfg)
    code = train(cfg, args.config, note)
    leave_processes()  # not before the Runner is gone
    if code:
        raise SystemExit(code)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Train the model of a config.')
    add_config_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from a checkpoint; without a value (or with "auto") from the newest intact one in the work dir',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='bf16',
        choices=['bf16', 'fp16'],
        help='mixed precision [bf16, which needs no loss scale]',
    )
    return parser.parse_args(argv)


def check_trains(cfg: Config, name: str) -> None:
    """Refuse a config that lacks a section that training needs.

    Args:
        cfg: The config.
        name: Its name as the user gave it.

    Raises:
        ConfigMistake: Names the missing sections, and how to use such a config.
    """
    if cfg.get('model') is None:
        raise ConfigMistake(
            f'{name} has no model: it evaluates one that is trained. '
            f'Run: python tools/test.py {name} CHECKPOINT --model CONFIG_OF_THE_CHECKPOINT'
        )
    missing = [key for key in ('train_dataloader', 'train_cfg', 'optim_wrapper') if cfg.get(key) is None]
    if missing:
        raise ConfigMistake(
            f'{name} has no {", ".join(missing)}: it says what a model is, not how to train it. Inherit it, with a '
            "schedule and data, in a config of your own: _base_ = ['%s', ...]" % name
        )


def set_precision(cfg: Config, precision: str) -> None:
    """Train in ``'bf16'`` or ``'fp16'``.

    Raises:
        ConfigMistake: If the config uses an optimizer wrapper that has no such setting.
    """
    wrapper = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if wrapper.split('.')[-1] not in ('OptimWrapper', 'PretrainOptimWrapper'):
        raise ConfigMistake(
            f'--amp does not apply to optim_wrapper.type={wrapper!r}; set its own option in the config.'
        )
    cfg.optim_wrapper.update(type='mmmaskclip.PretrainOptimWrapper', precision=precision)


def drop_late_schedules(cfg: Config) -> list[str]:
    """Leave out the schedules that would begin where a shortened run ends; mmengine refuses to build them.

    Only schedules without an ``end``, which end with the run, are looked at: with ``train_cfg.max_epochs=1`` the
    cosine after a warm-up of one epoch has no step.

    Args:
        cfg: The config; its ``param_scheduler`` is changed.

    Returns:
        A warning for each schedule that was left out.
    """
    schedules, length = cfg.get('param_scheduler'), cfg.train_cfg
    if not isinstance(schedules, list):
        return []
    kept, notes = [], []
    for index, schedule in enumerate(schedules):
        unit, key = ('epoch', 'max_epochs') if schedule.get('by_epoch', True) else ('iteration', 'max_iters')
        begin, end = schedule.get('begin', 0), length.get(key)
        if end is None or schedule.get('end') is not None or begin < end:
            kept.append(schedule)
            continue
        notes.append(
            f'param_scheduler.{index}, {schedule["type"]}, begins at {unit} {begin}, but the run ends at {unit} {end} '
            f'(train_cfg.{key}): it is left out.'
        )
    cfg.param_scheduler = kept
    return notes


def train(cfg: Config, name: str, note: str | None = None) -> str | int | None:
    """Run the training of a config.

    Args:
        cfg: A config with ``launcher`` and ``work_dir``; its processes are set up.
        name: Name of the config as the user gave it, for the summary at the end.
        note: A warning that is written into the log first. Defaults to none.

    Raises:
        ConfigMistake: If parts of the model do not fit together, or the training images do not fit the model.

    Returns:
        None after the last step; the exit code if a signal ended the run after everything was saved.
    """
    from mmmaskclip.cli.summary import summarize

    runner, code = run(cfg, note)
    if code is None and runner.rank == 0:
        runner.logger.info(summarize(runner, name))
    return code


def run(cfg: Config, note: str | None = None) -> tuple[ReliableRunner, str | int | None]:
    """Run the training of a config like :func:`train`; return the runner, too, beside the exit code."""
    from mmmaskclip.analysis.first_step import check_first_step
    from mmmaskclip.engine import ReliableRunner

    try:
        check_first_step(cfg)
    except (ValueError, KeyError) as error:
        raise ConfigMistake(error.args[0]) from error
    notes = [*([note] if note else ()), *drop_late_schedules(cfg)]
    runner = ReliableRunner.from_cfg(cfg)
    for text in notes:
        runner.logger.warning(text)
    try:
        runner.train()
    except SystemExit as stopped:  # its traceback would keep the Runner
        return runner, stopped.code
    return runner, None


if __name__ == '__main__':
    command()
