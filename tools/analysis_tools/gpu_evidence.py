"""Evidence on one GPU in minutes: six methods on Flickr8k and 50,000 harder scenes, and which papers' claims hold.

python tools/analysis_tools/gpu_evidence.py --out evidence --work work_dirs/evidence --flickr8k data/flickr8k
python tools/analysis_tools/gpu_evidence.py --out evidence --work work_dirs/evidence --share 0.01 --tower tiny --seeds 0

compare_methods.py trains and tests CLIP, CLIP + MAE, MaskCLIP v1, MaskCLIP CVPR, maskclip_fast and SILC with ViT-S/16
at 128 px, three seeds each, several runs at once on the GPU. It measures retrieval, zero-shot classification,
segmentation, pointing and k-NN on scenes, and retrieval on Flickr8k. With --cifar10 it also measures zero-shot
classification and k-NN on CIFAR-10.

OUT gets at most four small files, which are rewritten whenever a run ends: evidence.md, evidence.json, scenes.png and
flickr8k.png. All other files are in WORK, where the same command continues. After --minutes the tool ends the
unfinished runs and lists them. The first seeds of all methods run before the second seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from mmmaskclip.analysis.evidence_configs import TOWERS, write_configs
from mmmaskclip.analysis.evidence_report import report
from mmmaskclip.datasets.scenes.writer import SceneSplit, write_shards
from mmmaskclip.startup.machine import usable_cores

_COMPARE = Path(__file__).with_name('compare_methods.py')
_NUM_SCENES, _NUM_HELD_OUT = 50_000, 1000
_EVERY_SECONDS, _GRACE_SECONDS = 10, 15
_DONE = 'finished'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='folder for the four result files')
    parser.add_argument('--work', type=Path, required=True, help='folder for scenes, configs, runs and logs')
    parser.add_argument('--flickr8k', type=Path, help='folder of its shards [leave Flickr8k out]')
    parser.add_argument('--cifar10', type=Path, help='folder of train.tar and test.tar [leave it out]')
    parser.add_argument('--minutes', type=float, default=8, help='wall time of everything [8]')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='[0 1 2]')
    parser.add_argument('--epochs', nargs=2, type=int, default=[2, 6], metavar=('SCENES', 'FLICKR8K'), help='[2 6]')
    parser.add_argument('--share', type=float, default=1.0, help='share of the scenes, to try it [1]')
    parser.add_argument('--tower', choices=TOWERS, default='vits16', help='[vits16]')
    parser.add_argument('--batch-size', type=int, default=128, help='[128]')
    parser.add_argument('--jobs', type=int, help='runs at once, over both data sets [half of the cores]')
    args = parser.parse_args(argv)
    if not 0 < args.share <= 1:
        parser.error(f'--share {args.share}: give a part of the scenes, above 0 and at most 1')
    if args.minutes <= 0 or min(args.epochs) < 1 or args.batch_size < 2:
        parser.error('--minutes, --epochs and --batch-size must be positive, and a batch needs two pairs')
    if args.flickr8k and not list(args.flickr8k.glob('train-*.tar')):
        parser.error(f'--flickr8k {args.flickr8k}: there is no train-*.tar')
    for name in ('train.tar', 'test.tar') if args.cifar10 else ():
        if not (args.cifar10 / name).is_file():
            parser.error(f'--cifar10 {args.cifar10}: there is no {name}')
    return args


def prepare_data(args: argparse.Namespace, cores: int) -> dict[str, str]:
    """Write the scenes and unpack CIFAR-10, unless an earlier call did; returns the folders by name."""
    folder = args.work / f'scenes-{args.share:g}'
    if not (folder / _DONE).is_file():
        count, held_out = (max(20, round(number * args.share)) for number in (_NUM_SCENES, _NUM_HELD_OUT))
        splits = {
            'train': SceneSplit(count, (3, 8), held_out=False, harder=True),
            'val': SceneSplit(held_out // 2, (3, 8), harder=True),
            'single': SceneSplit(held_out, (1, 1), harder=True),
            'known': SceneSplit(held_out, (1, 1), harder=True),
        }
        write_shards(folder, splits, image_size=128, shard_size=max(20, min(500, count // 16)), workers=cores)
        (folder / _DONE).touch()
    data = {'scenes': str(folder.resolve())}
    if args.flickr8k:
        data['flickr8k'] = str(args.flickr8k.resolve())
    if args.cifar10:
        data['cifar10'] = str(args.work.resolve())
        for split in ('train', 'test'):
            if not (args.work / 'cifar10_folder' / split).is_dir():
                with tarfile.open(args.cifar10 / f'{split}.tar') as tar:
                    tar.extractall(args.work / 'cifar10_folder', filter='data')
    return data


def start_comparisons(
    args: argparse.Namespace, configs: dict[str, list[Path]], jobs: int
) -> dict[str, subprocess.Popen]:
    """Start compare_methods for each data set; both share the machine."""
    started = {}
    for name, epochs in zip(('scenes', 'flickr8k'), args.epochs, strict=True):
        if name not in configs:
            continue
        folder = args.work / 'runs' / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / 'compare.log').open('a') as log:
            started[name] = subprocess.Popen(
                [
                    *(sys.executable, str(_COMPARE), *map(str, configs[name])),
                    *('--seeds', *map(str, args.seeds), '--epochs', str(epochs), '--jobs', str(jobs)),
                    *('--out', str(folder)),
                ],
                stdout=log,
                stderr=log,
            )
    return started


def end(processes: dict[str, subprocess.Popen]) -> None:
    """End the comparisons that still run, together with their trainings."""
    for process in processes.values():
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes.values():
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def collect(args: argparse.Namespace, configs: dict[str, list[Path]]) -> tuple[dict[str, dict], list[str]]:
    """The results so far by data set and method, and sentences about what is missing."""
    results: dict[str, dict] = {}
    missing = []
    for name, paths in configs.items():
        file = args.work / 'runs' / name / 'results.json'
        content = json.loads(file.read_text()) if file.is_file() else {'methods': {}, 'failed': {}}
        failed = {run.rpartition('/')[2]: reason for run, reason in content['failed'].items()}
        results[name] = {path.stem: dict(seeds=[], epochs=None, metrics={}) for path in paths}
        for method, entry in content['methods'].items():
            results[name][method.rpartition('/')[2]] = {
                key: entry.get(key) for key in ('seeds', 'epochs', 'metrics', 'minutes', 'step_time', 'runs')
            }
        for method, entry in results[name].items():
            for seed in args.seeds:
                if seed not in entry['seeds']:
                    reason = failed.get(f'{method} seed {seed}', 'the time was over')
                    missing.append(f'{name}: {method}, seed {seed}: {reason}')
    return results, missing


def write_results(args: argparse.Namespace, configs: dict[str, list[Path]], begin: float) -> None:
    """Write the result files anew."""
    results, missing = collect(args, configs)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    header = (
        f'{time.strftime("%Y-%m-%d")}, {device}, {os.cpu_count()} cores, torch {torch.__version__}; '
        f'{(time.monotonic() - begin) / 60:.1f} minutes so far. Towers {args.tower}, batch {args.batch_size}, '
        f'{round(_NUM_SCENES * args.share):,} harder scenes of 128 px. Percent, mean ± sample standard deviation. '
        'Flickr8k has neither masks nor classes: its columns of zero-shot and k-NN are on CIFAR-10, where it was given.'
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'evidence.md').write_text(report(results, header, missing))
    (args.out / 'evidence.json').write_text(json.dumps(dict(header=header, results=results, missing=missing)) + '\n')
    for name in configs:
        figure = args.work / 'runs' / name / 'figure.png'
        if figure.is_file():
            shutil.copyfile(figure, args.out / f'{name}.png')


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything; returns 1 if a run is missing."""
    args, begin = parse_args(argv), time.monotonic()
    cores = usable_cores()
    data = prepare_data(args, cores)
    print(f'data are ready after {time.monotonic() - begin:.0f} s', flush=True)
    jobs = args.jobs or max(1, cores // 2)
    precision, workers = ('bf16', 2) if torch.cuda.is_available() else ('fp32', 0)
    configs = write_configs(args.work / 'configs', data, args.tower, args.batch_size, precision, workers)
    processes = start_comparisons(args, configs, max(1, jobs // len(configs)))
    try:
        while any(process.poll() is None for process in processes.values()):
            if time.monotonic() - begin > 60 * args.minutes - _GRACE_SECONDS:
                print(f'{args.minutes:g} minutes are over', flush=True)
                break
            time.sleep(min(_EVERY_SECONDS, 60 * args.minutes))
            write_results(args, configs, begin)
    finally:
        end(processes)
        write_results(args, configs, begin)
    text = (args.out / 'evidence.md').read_text()
    print(text)
    return 1 if 'Not finished:' in text else 0


if __name__ == '__main__':
    sys.exit(main())
