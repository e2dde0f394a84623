r"""Train a config for many steps and print resident memory, open files and threads along the way; they must be flat.

PYTHONPATH=tests/tiny python tools/analysis_tools/soak.py tests/tiny/tiny.py --steps 10000 --work-dir DIR \
    --cfg-options train_dataloader.dataset.size=2000

Linux only: the numbers come from /proc. Those of data workers are not counted.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook

from mmmaskclip.cli.config import add_config_arguments, load_config
from mmmaskclip.engine.runner import ReliableRunner
from mmmaskclip.utils.setup_env import setup_processes


@dataclass
class Reading:
    """What this process holds after ``step`` steps: resident memory in MiB, open files, threads."""

    step: int
    memory: float
    files: int
    threads: int


def read_process(step: int) -> Reading:
    """Read the numbers of this process."""
    gc.collect()
    status = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())
    files = sum(1 for _ in Path('/proc/self/fd').iterdir())
    return Reading(step, int(status['VmRSS'].split()[0]) / 1024, files, int(status['Threads']))


class ReadingHook(Hook):
    """Reads the process every ``interval`` steps and ends the training after ``steps``."""

    def __init__(self, steps: int, interval: int) -> None:
        self.steps, self.interval = steps, interval
        self.readings: list[Reading] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        step = runner.iter + 1
        if step % self.interval == 0 or step == self.steps:
            self.readings.append(read_process(step))


def soak(cfg: Config, steps: int, readings: int = 10) -> list[Reading]:
    """Train for a number of steps.

    Args:
        cfg: A config with ``train_cfg.max_epochs``, ``launcher`` and ``work_dir``.
        steps: At least so many; the last epoch is finished.
        readings: How many to take, at equal distances.
    """
    setup_processes(cfg)
    runner = ReliableRunner.from_cfg(cfg)
    epoch = len(runner.build_dataloader(cfg.train_dataloader))
    cfg.train_cfg.max_epochs = -(-steps // epoch)
    runner._train_loop = cfg.train_cfg
    hook = ReadingHook(steps, max(1, steps // readings))
    runner.register_hook(hook, priority='LOWEST')
    runner.train()
    return hook.readings


def format_table(readings: Sequence[Reading]) -> str:
    """One line for each reading."""
    lines = [f'{r.step:>8} {r.memory:>12.1f} {r.files:>11} {r.threads:>8}' for r in readings]
    return '\n'.join([f'{"step":>8} {"memory (MiB)":>12} {"open files":>11} {"threads":>8}', *lines])


def main(argv: Sequence[str] | None = None) -> list[Reading]:
    """Soak; returns the readings."""
    parser = argparse.ArgumentParser(description='Train many steps; print memory, open files and threads.')
    add_config_arguments(parser)
    parser.add_argument('--steps', type=int, default=10000, help='[10000]')
    args = parser.parse_args(argv)
    readings = soak(load_config(args), args.steps)
    print(format_table(readings))
    return readings


if __name__ == '__main__':
    main()
