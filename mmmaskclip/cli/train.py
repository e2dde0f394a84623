"""``mmmaskclip-train`` and ``tools/train.py``: run the training of a config."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from mmmaskclip.cli.config import add_config_arguments, load_config
from mmmaskclip.utils.setup_env import leave_processes, setup_processes


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Train the model of a config.')
    add_config_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a value (or with "auto") from the newest in the work dir',
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
    is gone; this one then takes the newest checkpoint there is.

    Args:
        cfg: The config; ``load_from`` and ``resume`` are changed.
        resume: Path of a checkpoint, or ``'auto'`` for the newest in ``cfg.work_dir``.

    Returns:
        What to tell the user.

    Raises:
        FileNotFoundError: If a path was given and there is no such file.
    """
    if resume != 'auto':
        if not Path(resume).is_file():
            raise FileNotFoundError(f'--resume {resume}: there is no such checkpoint.')
        cfg.load_from, cfg.resume = resume, True
        return f'--resume: going on from {resume}.'
    newest = find_newest_checkpoint(cfg.work_dir)
    cfg.load_from, cfg.resume = newest, newest is not None
    if newest is None:
        return f'--resume auto: NO CHECKPOINT in {cfg.work_dir}. TRAINING STARTS FROM SCRATCH.'
    return f'--resume auto: going on from {newest}.'


def find_newest_checkpoint(work_dir: str) -> str | None:
    """The checkpoint that ``last_checkpoint`` names, or else the one with the highest iteration or epoch, or None."""
    last = Path(work_dir, 'last_checkpoint')
    if last.is_file():
        named = Path(last.read_text().strip())
        # By its name too, so that a work dir may be moved.
        for path in (named, Path(work_dir, named.name)):
            if path.is_file():
                return str(path)
    numbered = [
        (int(match[1]), path) for path in Path(work_dir).glob('*.pth') if (match := _NUMBERED.fullmatch(path.name))
    ]
    return str(max(numbered)[1]) if numbered else None


_NUMBERED = re.compile(r'(?:iter|epoch)_(\d+)\.pth')


def train(cfg: Config, message: str | None = None) -> None:
    """Run the training of a config.

    Args:
        cfg: A config with ``launcher`` and ``work_dir``.
        message: What to write into the log first, as a warning. Defaults to nothing.
    """
    setup_processes(cfg)
    runner = Runner.from_cfg(cfg)
    if message:
        runner.logger.warning(message)
    runner.train()


def main(argv: Sequence[str] | None = None) -> None:
    """Train."""
    args = parse_args(argv)
    cfg = load_config(args)
    if args.amp:
        set_precision(cfg, args.amp)
    resumed = None
    if args.resume or (cfg.get('resume') and not cfg.get('load_from')):
        resumed = set_resume(cfg, args.resume or 'auto')
    train(cfg, resumed)
    leave_processes()


if __name__ == '__main__':
    main()
