"""Compare methods: train all with the same budget and seeds, evaluate all alike, write one table.

python tools/analysis_tools/compare_methods.py configs/clip/vitxs16_scenes.py configs/maskclip/vitxs16_scenes_v1.py \
    --seeds 0 1 --epochs 12 --out work_dirs/compare

Every (config, seed) is one training (`tools/train.py`) in OUT/runs, followed by `tools/test.py`. After an interruption
repeat the command: finished runs are kept, unfinished runs resume from their newest checkpoint, failed runs are tried
again. After every run the tool rewrites OUT/table.md, OUT/results.json and OUT/figure.png.

Budget: with --epochs all methods train for the same number of epochs. With --minutes all methods train for about the
same wall time: a short probe measures the time of a step, data loading included, and the method gets the nearest whole
number of epochs. Methods of different cost then get different numbers of epochs; all seeds of a method get the same
number. Schedules end when training ends. --jobs N runs N probes or trainings in parallel.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config, DictAction

from mmmaskclip.analysis.budget import decisive_settings, differences, evaluation_settings, fingerprint, set_epochs
from mmmaskclip.analysis.comparison import (
    draw_bars,
    metric_names,
    read_run,
    read_step_times,
    seconds_of_training,
    summarize,
    summary_table,
)
from mmmaskclip.analysis.forked_runs import ForkedRun
from mmmaskclip.checkpoints.files import newest_verified
from mmmaskclip.cli.config import load_config
from mmmaskclip.startup.machine import usable_cores

# A probe logs every few steps. Its first interval is dropped: it includes the start of workers and kernels.
_PROBE_INTERVAL, _PROBE_SECONDS = 5, 10
# Workers need some seconds to notice that their training has ended.
_LOCK_PATIENCE = 20


@dataclass
class Method:
    """One config of the comparison."""

    name: str
    path: str
    cfg: Config
    epochs: int | None = None
    failure: str | None = None


class RunFailed(Exception):
    """A training or evaluation ended with an error. The message names the error and the log."""


@dataclass
class Processes:
    """Starts processes, and ends the running ones when the tool is stopped."""

    threads: int
    _running: set[ForkedRun] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: bool = False

    def start(self, module: str, *arguments: str | Path, log: Path) -> ForkedRun:
        """Start ``python -m module``; its output is appended to ``log``."""
        # The process and its workers inherit the lock: the folder stays locked while one of them lives, even if this
        # tool is killed.
        lock = lock_folder(log.parent)
        with self._lock:
            if self.stopped:
                raise RunFailed('stopped')
            # The first start creates the server process from which all runs are forked.
            os.environ.setdefault('OMP_NUM_THREADS', str(self.threads))
            process = ForkedRun(module, [str(argument) for argument in arguments], log, lock)
            os.close(lock)
            self._running.add(process)
        return process

    def finish(self, process: ForkedRun, log: Path) -> None:
        """Wait for a process.

        Raises:
            RunFailed: If the process ends with an error.
        """
        code = process.wait()
        self._running.discard(process)
        if code:
            lines = [line for line in log.read_text(errors='replace').splitlines() if line.strip()]
            raise RunFailed(f'exit status {code}: {lines[-1].strip() if lines else "no output"} (see {log})')

    def stop(self) -> None:
        """End all running processes, and start no more."""
        with self._lock:
            self.stopped = True
            for process in list(self._running):
                process.terminate()


def lock_folder(folder: Path) -> int:
    """Lock a run's folder; returns the open file that holds the lock.

    Raises:
        RunFailed: If a living process still holds the lock.
    """
    descriptor = os.open(folder / 'lock', os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise RunFailed(f'another process still works in {folder}: wait for it, or end it') from None
            time.sleep(0.2)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='pretraining configs with the same test tasks')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1], help='[0 1]')
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument('--epochs', type=int, help="epochs of every run [the reference config's]")
    budget.add_argument('--minutes', type=float, help='wall time of training per run, without validation')
    parser.add_argument('--out', type=Path, required=True, help='folder for runs, logs and results')
    parser.add_argument('--reference', help='config that the others are compared with [the first]')
    parser.add_argument('--metrics', nargs='+', help='columns of the table and panels of the figure [all]')
    parser.add_argument('--jobs', type=int, default=1, help='parallel runs, which share the cores [1]')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE', help='settings for all configs'
    )
    args = parser.parse_args(argv)
    args.reference = args.reference or args.configs[0]
    if args.reference not in args.configs:
        parser.error(f'--reference {args.reference} is not among the configs: {" ".join(args.configs)}')
    if len(set(args.seeds)) < len(args.seeds):
        parser.error(f'--seeds {" ".join(map(str, args.seeds))}: one of them is given twice')
    for name in ('epochs', 'minutes', 'jobs'):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            parser.error(f'--{name} {getattr(args, name)}: must be positive')
    return args


def load_methods(args: argparse.Namespace) -> dict[str, Method]:
    """The configs by name, FOLDER/NAME.

    Raises:
        ValueError: If two configs have the same name, or if a config is evaluated differently from the reference.
    """
    methods: dict[str, Method] = {}
    for path in args.configs:
        name = '/'.join(Path(path).resolve().with_suffix('').parts[-2:])
        if name in methods:
            raise ValueError(f'{path} and {methods[name].path} are both called {name}; rename a file or its folder')
        options = dict(cfg_options=args.cfg_options, launcher='none', device=None, work_dir=None)
        cfg = load_config(argparse.Namespace(config=path, **options))
        for loader in ('train_dataloader', 'test_dataloader'):
            if cfg.get(loader) is None:
                raise ValueError(f'{path} has no {loader}: only configs that train and are tested can be compared')
        # The seed of each run is set later.
        cfg.randomness = {key: value for key, value in cfg.get('randomness', {}).items() if key != 'seed'}
        methods[name] = Method(name, path, cfg)
    reference = evaluation_settings(methods[reference_name(args)].cfg)
    for method in methods.values():
        different = differences(reference, evaluation_settings(method.cfg))
        if different:
            raise ValueError(
                f'{method.path} is not evaluated like {args.reference}: give both the same test_dataloader, '
                f'test_evaluator and test_cfg. {"; ".join(different[:3])}'
            )
    return methods


def reference_name(args: argparse.Namespace) -> str:
    return '/'.join(Path(args.reference).resolve().with_suffix('').parts[-2:])


class Comparison:
    """All runs of one call."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.methods = load_methods(args)
        self.reference = reference_name(args)
        self.processes = Processes(threads=max(1, usable_cores() // args.jobs))
        self.finished: dict[str, dict[int, dict]] = {name: {} for name in self.methods}
        self.failed: dict[str, str] = {}
        self._report_lock = threading.Lock()

    def run(self) -> int:
        """Train and evaluate all unfinished runs; returns the exit status, 1 if a run failed."""
        self.args.out.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(self.args.jobs) as pool:
            try:
                list(pool.map(self._set_budget, self.methods.values()))
                for method in self.methods.values():
                    if method.failure is None:
                        self._check_old_runs(method)
                # The first seed of all methods comes first, so that an early table compares all methods.
                plan = [(method, seed) for seed in self.args.seeds for method in self.methods.values()]
                list(pool.map(lambda task: self._run_one(*task), plan))
            except BaseException:
                self.processes.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        self._report()
        for name, reason in self.failed.items():
            print(f'Failed: {name}: {reason}', file=sys.stderr)
        return 1 if self.failed else 0

    def _set_budget(self, method: Method) -> None:
        """Set the number of epochs of a method."""
        try:
            if self.args.minutes is None:
                method.epochs = self.args.epochs or self.methods[self.reference].cfg.train_cfg.max_epochs
            else:
                probe = self._probe(method)
                seconds = probe['step_time'] * probe['steps_per_epoch']
                method.epochs = max(1, round(60 * self.args.minutes / seconds))
                say(f'{method.name}: {seconds:.1f} s per epoch, so {method.epochs} epochs')
        except RunFailed as error:
            method.failure = f'the probe of its speed failed: {error}'

    def _probe(self, method: Method) -> dict[str, float]:
        """Seconds per step and steps per epoch, measured once per comparison."""
        folder = self.args.out / 'probes' / method.name
        file = folder / f'{fingerprint(decisive_settings(method.cfg))}.json'
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            cfg = method.cfg.copy()
            set_epochs(cfg, 1000)  # the probe is stopped, it never finishes
            cfg.train_cfg.val_begin = 1001
            cfg.randomness = {**cfg.randomness, 'seed': 0}
            cfg.merge_from_dict(
                {'default_hooks.logger.interval': _PROBE_INTERVAL, 'default_hooks.checkpoint.interval': 10**9}
            )
            cfg.dump(folder / 'config.py')
            file.write_text(json.dumps(self._measure(folder)) + '\n')
        return json.loads(file.read_text())

    def _measure(self, folder: Path) -> dict[str, float]:
        started, log = time.time(), folder / 'train.log'
        process = self.processes.start('mmmaskclip.cli.train', folder / 'config.py', '--work-dir', folder, log=log)
        while True:
            ended = process.poll() is not None
            logs = [path for path in folder.glob('*/vis_data/scalars.json') if path.stat().st_mtime >= started - 1]
            times = read_step_times(logs)
            measured = seconds_of_training(times) - seconds_of_training(dict([*times.items()][:1]))
            if len(times) > 1 and measured >= _PROBE_SECONDS:
                process.terminate()
                process.wait()
                steps = re.findall(r'\]\[\s*\d+/(\d+)\]', log.read_text(errors='replace'))
                return dict(step_time=measured / (max(times) - min(times)), steps_per_epoch=int(steps[-1]))
            if ended:
                self.processes.finish(process, log)
                raise RunFailed(f'the training ended after {len(times)} log lines (see {log})')
            time.sleep(0.2)

    def _folder(self, method: Method, seed: int) -> Path:
        return self.args.out / 'runs' / method.name / f'seed{seed}'

    def _settings(self, method: Method) -> dict:
        cfg = method.cfg.copy()
        set_epochs(cfg, method.epochs)
        return decisive_settings(cfg)

    def _check_old_runs(self, method: Method) -> None:
        """Refuse a table that mixes runs with different settings."""
        for seed in self.args.seeds:
            file = self._folder(method, seed) / 'settings.json'
            if file.is_file():
                different = differences(json.loads(file.read_text()), self._settings(method))
                if different:
                    raise ValueError(
                        f'{file.parent} holds a run of other settings (old != new): {"; ".join(different[:3])}. Remove '
                        'it, or choose another --out.'
                    )

    def _run_one(self, method: Method, seed: int) -> None:
        """Train and evaluate one run, unless it is finished, and rewrite the report."""
        label = f'{method.name} seed {seed}'
        try:
            if method.failure:
                raise RunFailed(method.failure)
            folder = self._folder(method, seed)
            if not (folder / 'metrics.json').is_file():
                say(f'{label}: training, {method.epochs} epochs')
                self._train(method, seed, folder)
            run = read_run(folder)
            with self._report_lock:
                self.finished[method.name][seed] = run
            shown = '  '.join(f'{name} {value:.2f}' for name, value in run['metrics'].items())
            say(f'{label}: {shown}')
        except RunFailed as error:
            if self.processes.stopped:
                return
            self.failed[label] = str(error)
            say(f'{label}: failed, {error}')
        self._report()

    def _train(self, method: Method, seed: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        cfg = method.cfg.copy()
        set_epochs(cfg, method.epochs)
        cfg.randomness = {**cfg.randomness, 'seed': seed}
        # The exact config of the run, for reading and for the evaluation below.
        config, log = folder / 'config.py', folder / 'train.log'
        cfg.dump(config)
        (folder / 'settings.json').write_text(json.dumps(self._settings(method), indent=1) + '\n')
        run = ('--work-dir', folder)
        self.processes.finish(
            self.processes.start('mmmaskclip.cli.train', config, *run, '--resume', 'auto', log=log), log
        )
        checkpoint, _ = newest_verified(folder)
        if checkpoint is None:
            raise RunFailed(f'the training left no checkpoint: set default_hooks.checkpoint in the config (see {log})')
        partial, log = folder / 'metrics.partial.json', folder / 'test.log'
        self.processes.finish(
            self.processes.start('mmmaskclip.cli.test', config, checkpoint, *run, '--out', partial, log=log), log
        )
        partial.replace(folder / 'metrics.json')

    def _report(self) -> None:
        """Write table, results and figure of the runs finished so far."""
        with self._report_lock:
            out, epochs = self.args.out, {method.name: method.epochs for method in self.methods.values()}
            summary = summarize({name: dict(runs) for name, runs in self.finished.items()}, self.reference)
            names = metric_names(summary, self.args.metrics)
            budget = f'{self.args.minutes:g} minutes' if self.args.minutes else 'the same number of epochs'
            text = summary_table(summary, epochs, self.reference, names)
            text += f'\n\nBudget of each run: {budget}. Mean ± sample standard deviation over the seeds.\n'
            text += ''.join(f'\nFailed: {name}: {reason}\n' for name, reason in self.failed.items())
            (out / 'table.md').write_text(text)
            methods = {
                name: dict(
                    config=method.path,
                    epochs=method.epochs,
                    fingerprint=fingerprint(self._settings(method)) if method.epochs else None,
                    **summary[name],
                    runs=self.finished[name],
                )
                for name, method in self.methods.items()
            }
            content = dict(
                budget=dict(epochs=self.args.epochs, minutes=self.args.minutes),
                reference=self.reference,
                seeds=self.args.seeds,
                methods=methods,
                failed=self.failed,
            )
            (out / 'results.json').write_text(json.dumps(content, indent=2) + '\n')
            # The figure of an earlier call may show other runs.
            (out / 'figure.png').unlink(missing_ok=True)
            if names:
                draw_bars(summary, names, out / 'figure.png')


def say(text: str) -> None:
    """Print one line with the time, in a single write, because runs report from several threads."""
    sys.stdout.write(f'{time.strftime("%H:%M:%S")} {text}\n')
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; returns the exit status."""
    args = parse_args(argv)
    # SIGTERM must end the runs too, as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        comparison = Comparison(args)
        status = comparison.run()
    except KeyboardInterrupt:
        print('\nInterrupted. The same command continues from here.', file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    written = [name for name in ('table.md', 'results.json', 'figure.png') if (args.out / name).is_file()]
    print(f'\n{(args.out / "table.md").read_text()}\nWritten: {args.out}/{", ".join(written)}')
    return status


if __name__ == '__main__':
    sys.exit(main())
