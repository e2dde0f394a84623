"""``mmmaskclip-train`` and ``tools/train.py``: run the training of a config."""

from __future__ import annotations

import argparse
import os.path as osp
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mmmaskclip.checkpoints.files import newest_verified, verify_checkpoint
from mmmaskclip.cli.config import add_config_arguments, load_config
from mmmaskclip.config_check.paths import check_paths
from mmmaskclip.startup.processes import leave_processes, setup_processes


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Train the model of a config.')
    add_config_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a value (or with "auto") from the newest in the work dir that is whole',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='bf16',
        choices=['bf16', 'fp16'],
        help='mixed precision [bf16, which needs no loss scale]',
    )
    return parser.parse_args(argv)


def set_precision(cfg: Config, precision: str) -> None:
    """Train in ``'bf16'`` or ``'fp16'``.

    Raises:
        ValueError: If the config uses an optimizer wrapper that has no such setting.
    """
    wrapper = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if wrapper.split('.')[-1] not in ('OptimWrapper', 'PretrainOptimWrapper'):
        raise ValueError(f'--amp does not apply to optim_wrapper.type={wrapper!r}; set its own option in the config.')
    cfg.optim_wrapper.update(type='mmmaskclip.PretrainOptimWrapper', precision=precision)


def set_resume(cfg: Config, resume: str) -> str:
    """Point the run at the checkpoint to resume.

    mmengine's own search trusts the file ``last_checkpoint`` alone and starts from scratch, without a word, where that
    is gone.

    Args:
        cfg: The config; ``load_from`` and ``resume`` are changed.
        resume: Path or address of a checkpoint, or ``'auto'`` for the newest that is whole in ``cfg.work_dir``, or
            where the checkpoint hook's ``out_dir`` puts it; see
            :func:`~mmmaskclip.checkpoints.files.newest_verified`. If there is none, ``load_from`` stays.

    Returns:
        What to tell the user; names the checkpoints that are damaged.

    Raises:
        FileNotFoundError: If a path was given and there is no such file.
        ValueError: If that file is damaged, or all checkpoints in the work directory are.
    """
    if resume.startswith(('http://', 'https://')):
        cfg.load_from, cfg.resume = resume, True
        return f'--resume: going on from {resume}.'
    if resume != 'auto':
        if not Path(resume).is_file():
            raise FileNotFoundError(f'--resume {resume}: there is no such checkpoint.')
        if problem := verify_checkpoint(resume):
            raise ValueError(f'--resume {resume}: it is damaged, {problem}. Take --resume auto, or an earlier one.')
        cfg.load_from, cfg.resume = resume, True
        return f'--resume: going on from {resume}.'
    folder = _checkpoint_folder(cfg)
    newest, damaged = newest_verified(folder)
    told = ' '.join(f'DAMAGED, not used: {path} ({problem}).' for path, problem in damaged)
    if newest is None and damaged:
        raise ValueError(
            f'--resume auto: every checkpoint in {folder} is damaged. {told} Remove them to start from scratch.'
        )
    cfg.resume = newest is not None
    if newest is None:
        start = f'WITH THE WEIGHTS OF {cfg.load_from}' if cfg.get('load_from') else 'FROM SCRATCH'
        return f'--resume auto: NO CHECKPOINT in {folder}. TRAINING STARTS {start}.'
    cfg.load_from = newest
    return f'--resume auto: going on from {newest}.' + (f' {told}' if told else '')


def _checkpoint_folder(cfg: Config) -> str:
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    # As mmengine's hook joins them.
    return osp.join(hook['out_dir'], osp.basename(cfg.work_dir.rstrip('/'))) if hook.get('out_dir') else cfg.work_dir


def train(cfg: Config, message: str | None = None) -> None:
    """Run the training of a config.

    Args:
        cfg: A config with ``launcher`` and ``work_dir``.
        message: What to write into the log first, as a warning. Defaults to nothing.
    """
    # Here, because it imports every toolbox, which neither --help nor a mistake in the config should wait for.
    from mmmaskclip.engine import ReliableRunner

    setup_processes(cfg)
    runner = ReliableRunner.from_cfg(cfg)
    if message:
        runner.logger.warning(message)
    runner.train()


def main(argv: Sequence[str] | None = None) -> None:
    """Train."""
    args = parse_args(argv)
    cfg = load_config(args)
    if args.amp:
        set_precision(cfg, args.amp)
    resume = args.resume or (cfg.get('resume') and (cfg.get('load_from') or 'auto'))
    resumed = set_resume(cfg, resume) if resume else None
    check_paths(cfg)
    code: str | int | None = None
    try:
        train(cfg, resumed)
    except SystemExit as stopped:  # saved after a signal; past this block nothing refers to the Runner any more
        code = stopped.code
    leave_processes()
    if code:
        raise SystemExit(code)


if __name__ == '__main__':
    main()
