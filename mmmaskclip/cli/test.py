"""``mmmaskclip-test`` and ``tools/test.py``: evaluate a checkpoint with a config's test tasks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmmaskclip.cli.config import add_config_arguments, load_config, run_command
from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.startup.collector import paused_collector

if TYPE_CHECKING:
    from mmengine.config import Config


def command() -> None:
    """Entry point of ``mmmaskclip-test``."""
    run_command(main)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Evaluate.

    Args:
        argv: The command line. Defaults to this process's.

    Returns:
        The metrics by name.

    Raises:
        ConfigMistake: If something in the config or on the command line is wrong; nothing was started then.
    """
    args = parse_args(argv)
    # Local imports: they load torch and the toolboxes, for which --help should not wait.
    with paused_collector():
        cfg = load_config(args)
        import mmmaskclip.engine  # noqa: F401
    check_tests(cfg, args)

    from mmengine.dist import is_main_process

    from mmmaskclip.cli.paths import check_paths
    from mmmaskclip.cli.show_dir import draw_predictions
    from mmmaskclip.startup.processes import leave_processes

    if args.show_dir:
        draw_predictions(cfg, args.show_dir)
    cfg.load_from, cfg.resume = None, False
    check_paths(cfg, 'test', None if args.checkpoint == 'none' else args.checkpoint)
    if args.out:  # now and not after hours of evaluation
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)

    metrics = evaluate(cfg, args.checkpoint, args.amp)
    if is_main_process():
        report(metrics, cfg, args)
    leave_processes()
    return metrics


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint with the test tasks of a config.')
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='path of the checkpoint, or "none" for the untrained model')
    parser.add_argument(
        '--model',
        metavar='CONFIG',
        help='take the model, and the size of its images, from this config instead; "auto": from the checkpoint, '
        'which may also be a folder, hf://OWNER/REPOSITORY or openclip:ARCHITECTURE/TAG',
    )
    parser.add_argument('--out', metavar='FILE.json', help='also write the metrics to this file')
    parser.add_argument('--amp', action='store_true', help='run the towers in bfloat16')
    parser.add_argument(
        '--show-dir', metavar='DIR', help='also draw the predictions on the images, with mmseg, mmdet or mmpretrain'
    )
    return parser.parse_args(argv)


def check_tests(cfg: Config, args: argparse.Namespace) -> None:
    """Set the model that ``--model`` names, and refuse a config that lacks a part of an evaluation.

    Raises:
        ConfigMistake: If there is nothing to evaluate, or no model, or ``--out`` is a folder.
    """
    from mmmaskclip.cli.other_model import use_model
    from mmmaskclip.config_check.check import check_config

    if cfg.get('test_dataloader') is None:
        raise ConfigMistake(f'{args.config} has no test_dataloader: it defines nothing to evaluate.')
    if args.model:
        args.checkpoint = use_model(cfg, args.model, args.checkpoint)
        check_config(cfg)
    if cfg.get('model') is None:
        raise ConfigMistake(f'{args.config} has no model: say with --model CONFIG which one the checkpoint is of.')
    if args.out and Path(args.out).is_dir():
        raise ConfigMistake(f'--out {args.out}: it is a folder; name a file in it.')


def evaluate(cfg: Config, checkpoint: str, amp: bool = False) -> dict[str, float]:
    """Run the test tasks of a config.

    Args:
        cfg: A config with ``launcher`` and ``work_dir``.
        checkpoint: Path of the checkpoint, or ``'none'``.
        amp: Run the towers in bfloat16. Defaults to False.

    Returns:
        The metrics by name.
    """
    import torch
    from mmengine.model import is_model_wrapper

    from mmmaskclip.checkpoints.weights import load_weights
    from mmmaskclip.engine import ReliableRunner
    from mmmaskclip.startup.processes import setup_processes

    setup_processes(cfg)
    runner = ReliableRunner.from_cfg(cfg)
    if checkpoint == 'none':
        runner._init_model_weights()  # as train() does before its first step, the broadcast included
    else:
        load_weights(runner.model.module if is_model_wrapper(runner.model) else runner.model, checkpoint)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    with torch.autocast(device, torch.bfloat16, enabled=amp):
        return {name: float(value) for name, value in runner.test().items()}


def report(metrics: dict[str, float], cfg: Config, args: argparse.Namespace) -> None:
    """Print the metrics as a table; where ``--out`` says, write them with everything that decides them."""
    from mmmaskclip.analysis.evaluation_record import evaluation_record
    from mmmaskclip.utils.tables import format_table

    table = format_table([(name, f'{value:.4f}') for name, value in metrics.items()])
    print(f'\n{args.config}  {args.checkpoint}\n{table}')
    if args.out:
        model = {'model': args.model} if args.model else {}
        record = evaluation_record(cfg, args.checkpoint, args.amp)
        result = {
            'config': args.config, **model, 'checkpoint': args.checkpoint, 'metrics': metrics, 'record': record
        }  # fmt: skip
        Path(args.out).write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    command()
