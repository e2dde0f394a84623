"""Measure and check on one GPU, in at most six minutes, everything that docs/performance.md marks "not run".

python tools/analysis_tools/gpu_report.py work_dirs/gpu_report

Writes at most six files into the folder: report.md (for people; paste its tables into docs/performance.md), steps.json,
checks.json, resume.json, kernels.txt and failures.txt. If a part fails, failures.txt names it, and the other parts run.
The papers' share of one GPU, 128 images: `--only steps --groups Compiled --batch-size 128`, without a time limit.

On a machine without a GPU, `--small` runs the same parts on tiny models.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from mmmaskclip.analysis.contenders import (
    DTYPES,
    Conditions,
    Contender,
    build_contenders,
    compare,
    matrix_ceiling,
    table_of_parts,
    table_of_steps,
)
from mmmaskclip.analysis.exactness import run_checks, table_of_checks
from mmmaskclip.analysis.step_parts import lines_that_wait, profile_step
from mmmaskclip.checkpoints.safe_load import read_checkpoint
from mmmaskclip.engine.registration import register_all_modules

ROOT = Path(__file__).parents[2]
OPEN_CLIP = 'open_clip:ViT-B-16'
CLIP = 'configs/clip/vitb16_laion20m.py'
V1 = 'configs/maskclip/vitb16_laion20m_v1.py'
CVPR = 'configs/maskclip/vitb16_yfcc15m_cvpr.py'
FAST = 'configs/maskclip_fast/vitb16_laion20m.py'
_PACKED = 'model.text_encoder.packed=True'
_AT_ONCE = 'model.objectives.distillation.images_at_once'
_HALF = 'model.objectives.distillation.image_share=0.5'
# Several groups, because all of these models together would not fit on one card.
GROUPS = {
    'Eager': [OPEN_CLIP, CLIP, V1],
    'Compiled': [f'{name}+compiled' for name in (OPEN_CLIP, CLIP, V1, CVPR, FAST)],
    'Compiled, with options': [
        f'{CLIP}@{_PACKED}+compiled',
        f'{V1}@{_AT_ONCE}=128+compiled',
        f'{CVPR}@{_PACKED},{_AT_ONCE}=256+compiled',
        f'{FAST}@{_HALF}+compiled',
    ],
}
SMALL = ['configs/clip/vitxs16_scenes.py', 'configs/maskclip/vitxs16_scenes_v1.py']
TRAINED = 'configs/maskclip/vitxs16_scenes_v1.py'
# Two epochs, because the warm-up takes the first one.
TWO_EPOCHS = ('train_cfg.max_epochs=2', 'train_cfg.val_interval=100')
# Largest time in seconds for 20 steps of a tiny model, including the start.
LAUNCH_LIMIT = 180
PARTS = ('checks', 'steps', 'launcher', 'resume')


class Report:
    """The text of the report, and its files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.failures: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, title: str, *lines: str) -> None:
        """Add a section, and write the report so far."""
        self.lines += [f'## {title}', '', *lines, '']
        (self.folder / 'report.md').write_text('\n'.join(self.lines))

    def dump(self, name: str, value: Any) -> None:
        """Write a JSON file."""
        (self.folder / name).write_text(json.dumps(value, indent=1))

    def fail(self, name: str) -> None:
        """Keep the traceback of the current exception."""
        self.failures += [name, traceback.format_exc()]
        (self.folder / 'failures.txt').write_text('\n'.join(self.failures))
        self.add(f'{name} failed', 'See failures.txt.')

    def attempt(self, part: Callable[..., None], *args: Any) -> None:
        """Run a part; the traceback of one that fails goes to failures.txt."""
        begin = time.monotonic()
        try:
            part(self, *args)
        except Exception:  # whatever fails, the other parts must still run
            self.fail(part.__name__)
        print(f'{part.__name__}: {time.monotonic() - begin:.0f} s', flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def steps(
    report: Report, device: str, small: bool, batch_size: int | None, titles: Sequence[str] = tuple(GROUPS)
) -> None:
    """Time training steps of all methods, eager and compiled, against OpenCLIP; then their parts and kernels."""
    precision = 'bf16' if device == 'cuda' else 'fp32'
    conditions = Conditions(device, precision, batch_size or (8 if small else 512))
    ceiling = matrix_ceiling(device, DTYPES[precision])
    tables: list[str] = []
    groups: dict[str, list[dict[str, Any]]] = {}
    parts: dict[str, dict[str, float]] = {}
    kernels: list[str] = []
    for title, names in dict(small=SMALL).items() if small else ((title, GROUPS[title]) for title in titles):
        contenders = _those_that_run(report, names, conditions)
        rows = groups[title] = compare(contenders, 3 if small else 8, 1, ceiling)
        # In a comprehension: a loop's variable would keep the last model on the GPU.
        kernels += [line for contender in contenders for line in _kernels_of(contender, device)]
        parts |= {_short(contender.name): contender.parts(2) for contender in contenders}
        del contenders
        if device == 'cuda':
            torch.cuda.empty_cache()
        for row in rows:
            row['contender'] = _short(row['contender'])
        tables += [f'{title}:', '', table_of_steps(rows), '']
        report.dump('steps.json', dict(ceiling=ceiling, batch_size=conditions.batch_size, groups=groups, parts=parts))
        (report.folder / 'kernels.txt').write_text('\n'.join(kernels))
    report.add('Steps', f'Matrix products: {ceiling / 1e12:.1f} TFLOP/s. Batch {conditions.batch_size}.', '', *tables)
    report.add('Milliseconds by part', table_of_parts(parts))


def _kernels_of(contender: Contender, device: str) -> list[str]:
    kinds, longest = profile_step(contender.run, device, 40)
    waits = lines_that_wait(contender.run) if device == 'cuda' else []
    return [
        *('', _short(contender.name)),
        *(f'{ms:9.2f} ms  {kind[:110]}' for kind, ms in [*kinds.items(), *longest]),
        *(f'the host waits at {place}' for place in waits),
    ]


def _those_that_run(report: Report, names: list[str], conditions: Conditions) -> list[Contender]:
    """Build contenders and let each take its first step. The report lists those that fail, e.g. for lack of memory."""
    contenders = []
    for name in names:
        begin = time.monotonic()
        try:
            (contender,) = build_contenders([_absolute(name)], conditions)
            contender.run()
            contenders.append(contender)
        except Exception:  # whatever fails, the other contenders must still run
            report.fail(name)
        print(f'{name}: built and run once in {time.monotonic() - begin:.0f} s', flush=True)
    return contenders


def _short(name: str) -> str:
    return name.removeprefix(f'{ROOT}/')


def _absolute(name: str) -> str:
    return name if name.startswith('open_clip:') else f'{ROOT}/{name}'


def checks(report: Report, device: str, small: bool) -> None:
    """Compare fast forms with plain ones on this device."""
    results = run_checks(device, dict(backend='eager') if small else None)
    report.add('Exactness', table_of_checks(results))
    report.dump('checks.json', [vars(check) | dict(passed=check.passed) for check in results])


def resume(report: Report, small: bool) -> None:
    """Train 40 steps, and again with a SIGKILL after the checkpoint of step 20; compare the last checkpoints."""
    scenes, size = report.folder / 'scenes', 8 if small else 64
    _make_scenes(scenes, 20 * size)
    whole, killed = report.folder / 'whole', report.folder / 'killed'
    _train(scenes, whole, size).wait()
    _kill_after(_train(scenes, killed, size), killed / 'iter_20.pth')
    _train(scenes, killed, size, '--resume', 'auto').wait()
    states = [read_checkpoint(str(folder / 'iter_40.pth'))['state_dict'] for folder in (whole, killed)]
    difference = max(float((states[1][name].float() - value.float()).abs().max()) for name, value in states[0].items())
    report.add('Killed at step 20 of 40 and resumed', f'Largest difference of a parameter: {difference:.1e}.')
    report.dump('resume.json', dict(steps=40, killed_after=20, largest_difference=difference))
    for folder in (scenes, whole, killed):
        shutil.rmtree(folder)


def launcher(report: Report, device: str, small: bool) -> None:
    """Train 20 steps of a tiny model with `tools/dist_train.sh CONFIG 1`; say how it ended and its last line."""
    folder, size = report.folder / 'launched', 8 if small else 64
    scenes, output = folder / 'scenes', folder / 'output.txt'
    folder.mkdir(exist_ok=True)
    _make_scenes(scenes, 10 * size)
    on_cpu = ['--device', 'cpu'] if device == 'cpu' else []
    options = [*TWO_EPOCHS, f'train_dataloader.batch_size={size}']
    command = [str(ROOT / 'tools/dist_train.sh'), str(ROOT / TRAINED), '1', '--work-dir', str(folder), *on_cpu]
    environment = dict(PYTHON=sys.executable) | os.environ | dict(MMMASKCLIP_SCENES=str(scenes))
    with output.open('w') as log:
        process = subprocess.Popen([*command, '--cfg-options', *options], env=environment, stdout=log, stderr=log)
        try:
            code = process.wait(LAUNCH_LIMIT)
        except subprocess.TimeoutExpired:
            process.terminate()  # the script passes SIGTERM on; a SIGKILL would leave the training behind
            process.wait()
            raise RuntimeError(f'the training did not end within {LAUNCH_LIMIT} s: {_end_of(output)}') from None
    lines = [line for line in output.read_text().splitlines() if any(map(str.isalnum, line))] or [
        '(it printed nothing)'
    ]
    report.add('tools/dist_train.sh CONFIG 1', f'Exit code {code}. Last line: `{lines[-1]}`')
    if code:
        raise RuntimeError(f'tools/dist_train.sh ended with {code}: {_end_of(output)}')
    shutil.rmtree(folder)


def _make_scenes(folder: Path, number: int) -> None:
    make = [sys.executable, str(ROOT / 'tools/dataset_converters/make_scenes.py'), str(folder)]
    numbers = ['--num-train', str(number), '--num-held-out', '8', '--shard-size', str(number // 4)]
    subprocess.run([*make, *numbers], check=True, capture_output=True)


def _end_of(output: Path) -> str:
    return output.read_text()[-3000:]


def _train(scenes: Path, folder: Path, batch_size: int, *arguments: str) -> subprocess.Popen:
    options = [
        *(*TWO_EPOCHS, f'train_dataloader.batch_size={batch_size}'),
        *('default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=20'),
        'randomness.deterministic=True',
    ]
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(ROOT / TRAINED), '--work-dir', str(folder)]
    environment = os.environ | dict(MMMASKCLIP_SCENES=str(scenes), CUBLAS_WORKSPACE_CONFIG=':4096:8')
    folder.mkdir(exist_ok=True)
    log = (folder / 'output.txt').open('a')
    return subprocess.Popen([*command, *arguments, '--cfg-options', *options], env=environment, stdout=log, stderr=log)


def _kill_after(process: subprocess.Popen, checkpoint: Path) -> None:
    while not checkpoint.exists():
        if process.poll() is not None:
            end = _end_of(checkpoint.parent / 'output.txt')
            raise RuntimeError(f'the training ended with {process.returncode} before it wrote {checkpoint}: {end}')
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('folder', type=Path, help='for the report')
    parser.add_argument('--batch-size', type=int, help='images per step [512]')
    parser.add_argument('--small', action='store_true', help='tiny models, for machines without a GPU')
    parser.add_argument('--groups', nargs='+', choices=GROUPS, default=[*GROUPS], help='of the steps [all]')
    parser.add_argument('--only', nargs='+', choices=PARTS, help='[all]')
    args = parser.parse_args(argv)
    if not torch.cuda.is_available() and not args.small:
        parser.error('there is no GPU here; --small runs the same on tiny models')
    register_all_modules()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    report = Report(args.folder)
    machine = torch.cuda.get_device_name() if device == 'cuda' else f'CPU, {torch.get_num_threads()} threads'
    versions = f'torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}'
    report.add(f'{machine}, {time.strftime("%Y-%m-%d")}', f'{versions}.')
    only = args.only or PARTS
    if 'checks' in only:
        report.attempt(checks, device, args.small)
    if 'steps' in only:
        report.attempt(steps, device, args.small, args.batch_size, args.groups)
    if 'launcher' in only:
        report.attempt(launcher, device, args.small)
    if 'resume' in only:
        report.attempt(resume, args.small)
    print('\n'.join(report.lines))
    if report.failures:
        sys.exit(1)


if __name__ == '__main__':
    main()
