r"""Soak test: train many steps; print memory, open files and threads of the process and its data workers.

None of the numbers may grow. Memory is resident memory.

python tools/dataset_converters/make_scenes.py DIR/scenes --num-train 400 --num-held-out 80 --shard-size 100
MMMASKCLIP_SCENES=DIR/scenes python tools/analysis_tools/soak.py configs/maskclip/vitxs16_scenes_v1.py --steps 10000 \
    --work-dir DIR/soak --cfg-options train_dataloader.batch_size=4 train_dataloader.num_workers=2

Linux only: the numbers come from /proc.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook

from mmmaskclip.cli.config import add_config_arguments, load_config
from mmmaskclip.engine.runner import ReliableRunner
from mmmaskclip.startup.processes import setup_processes
from mmmaskclip.utils.tables import format_table


@dataclass
class Reading:
    """Numbers of the process after ``step`` steps, and their sums over its ``workers`` data workers.

    Memory is resident memory in MiB. Memory that a worker shares with the process counts in both.
    """

    step: int
    memory: float
    files: int
    threads: int
    workers: int = 0
    worker_memory: float = 0.0
    worker_files: int = 0
    worker_threads: int = 0


def read_process(pid: int | str) -> tuple[float, int, int]:
    """Read resident memory in MiB, open files and threads of a process."""
    folder = Path('/proc', str(pid))
    status = dict(line.split(':', 1) for line in (folder / 'status').read_text().splitlines())
    files = sum(1 for _ in (folder / 'fd').iterdir())
    return int(status['VmRSS'].split()[0]) / 1024, files, int(status['Threads'])


def read_all(step: int) -> Reading:
    """Read the numbers of this process and of its child processes, the data workers."""
    gc.collect()
    workers = [read_process(worker.pid) for worker in multiprocessing.active_children() if worker.pid]
    sums = [sum(numbers) for numbers in zip(*workers, strict=True)] or [0.0, 0, 0]
    return Reading(step, *read_process('self'), len(workers), *sums)


class ReadingHook(Hook):
    """Reads the numbers of the processes every ``interval`` steps, and at step ``steps``."""

    def __init__(self, steps: int, interval: int) -> None:
        self.steps, self.interval = steps, interval
        self.readings: list[Reading] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        step = runner.iter + 1
        if step % self.interval == 0 or step == self.steps:
            self.readings.append(read_all(step))


def soak(cfg: Config, steps: int, readings: int = 10) -> list[Reading]:
    """Train for a number of steps.

    Args:
        cfg: A config with ``train_cfg.max_epochs``, ``launcher`` and ``work_dir``.
        steps: Smallest number of steps; training ends with the epoch.
        readings: Number of readings, at equal intervals.
    """
    setup_processes(cfg)
    runner = ReliableRunner.from_cfg(cfg)
    epoch = len(runner.build_dataloader({'sampler': None, 'drop_last': True, **cfg.train_dataloader}))
    cfg.train_cfg.max_epochs = -(-steps // epoch)
    runner._train_loop = cfg.train_cfg
    hook = ReadingHook(steps, max(1, steps // readings))
    runner.register_hook(hook, priority='LOWEST')
    runner.train()
    return hook.readings


def readings_table(readings: Sequence[Reading]) -> str:
    """The readings as a table, one line each."""
    head = ['step', 'memory (MiB)', 'files', 'threads']
    rows = [
        (r.step, f'{r.memory:.1f}', r.files, r.threads)
        + (r.workers, f'{r.worker_memory:.1f}', r.worker_files, r.worker_threads)
        for r in readings
    ]
    return format_table(rows, [*head, 'workers', *(f'their {title}' for title in head[1:])])


def main(argv: Sequence[str] | None = None) -> list[Reading]:
    """Run the soak test; returns the readings."""
    parser = argparse.ArgumentParser(
        description='Train many steps; print memory, open files and threads of the process and its data workers.'
    )
    add_config_arguments(parser)
    parser.add_argument('--steps', type=int, default=10000, help='steps to train [10000]')
    args = parser.parse_args(argv)
    readings = soak(load_config(args), args.steps)
    print(readings_table(readings))
    return readings


if __name__ == '__main__':
    main()
