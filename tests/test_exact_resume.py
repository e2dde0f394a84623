"""Runs killed at any point and resumed by the command line end as one that was never interrupted, bit for bit."""

import io
import json
import multiprocessing
import os
import shutil
import signal
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from paths import CONFIGS
from PIL import Image
from ranks import environments

from mmmaskclip.checkpoints import files as checkpoint_files
from mmmaskclip.checkpoints.safe_load import read_checkpoint
from mmmaskclip.cli.train import main
from mmmaskclip.engine.hooks.preemption_hook import kill_workers
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.registry import HOOKS

# Before the forks, which then need not.
register_all_modules(init_default_scope=False)

RUNTIME = CONFIGS / '_base_/default_runtime.py'
PAIRS, BATCH, EPOCHS = 12, 2, 2
ITERATIONS = EPOCHS * PAIRS // BATCH
INTERVAL = 3


@HOOKS.register_module()
class RecordOfKeys(Hook):
    """Writes down what was trained on, and kills the process after an iteration."""

    priority = 'LOWEST'  # after the checkpoint hook

    kill_at = None

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        with open(Path(runner.work_dir) / 'keys.txt', 'a') as file:
            file.write(json.dumps([runner.iter, data_batch['key']]) + '\n')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Twelve pairs: a csv file with images, and two shards."""
    folder = tmp_path_factory.mktemp('data')
    lines, tars = ['filepath,caption'], [tarfile.open(folder / f'{shard}.tar', 'w') for shard in '01']  # noqa: SIM115
    for number in range(PAIRS):
        image, buffer = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8), io.BytesIO()
        Image.fromarray(image).save(buffer, 'PNG')
        (folder / f'{number}.png').write_bytes(buffer.getvalue())
        lines.append(f'{number}.png,photo number {number}')
        for extension, content in (('png', buffer.getvalue()), ('txt', f'photo number {number}'.encode())):
            member = tarfile.TarInfo(f'{number:04d}.{extension}')
            member.size = len(content)
            tars[number * 2 // PAIRS].addfile(member, io.BytesIO(content))
    for tar in tars:
        tar.close()
    (folder / 'pairs.csv').write_text('\n'.join(lines))
    return folder


@pytest.fixture(scope='module')
def write_config(data, tiny_model_cfg, distillation_cfg):
    """A function that writes the config of a run with drop path and a teacher."""

    def write(path, kind, workers, accumulate):
        cfg = Config.fromfile(RUNTIME)
        model = tiny_model_cfg(dict(contrast=dict(type='ImageTextContrast'), distillation=distillation_cfg('v1')))
        model['image_encoder']['drop_path_rate'] = 0.5
        model['text_encoder']['vocab_size'] = 49408
        views = dict(image=[dict(type='torchvision/RandomResizedCrop', size=32)])
        dataset = dict(type='ImageTextPairs', ann_file=str(data / 'pairs.csv'), views=views)
        loader = dict(sampler=dict(type='DefaultSampler', shuffle=True))
        if kind == 'shards':
            dataset = dict(type='ImageTextShards', urls=str(data / '*.tar'), views=views, shuffle_buffer=3)
            loader = {}
        cfg.merge_from_dict(
            dict(
                model=model,
                train_dataloader=dict(
                    batch_size=BATCH,
                    num_workers=workers,
                    persistent_workers=workers > 0,
                    collate_fn=dict(type='mmmaskclip.collate_image_text'),
                    dataset=dataset,
                    **loader,
                ),
                train_cfg=dict(type='PretrainLoop', max_epochs=EPOCHS),
                optim_wrapper=dict(
                    type='PretrainOptimWrapper',
                    constructor='PretrainOptimWrapperConstructor',
                    optimizer=dict(type='AdamW', lr=0.01, fused=True),
                    accumulative_counts=accumulate,
                ),
                param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=False, T_max=ITERATIONS)],
                default_hooks=dict(checkpoint=dict(interval=INTERVAL, max_keep_ckpts=2)),
                custom_hooks=[*cfg.custom_hooks, dict(type='RecordOfKeys')],
            )
        )
        cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
        cfg.dump(path)

    return write


def _main(arguments, kill_at, prepare, environment):
    RecordOfKeys.kill_at = kill_at
    os.environ.update(environment)
    torch.set_num_threads(1)
    if prepare is not None:
        prepare()
    main(arguments)
    # What the run leaves to the end of the interpreter, which a fork does not reach.
    kill_workers()


def start(config, work_dir, kill_at=None, prepare=None, world_size=1):
    """Train by the command line with ``--resume auto``, in processes of their own, which it returns."""
    arguments = [str(config), '--work-dir', str(work_dir), '--resume', 'auto']
    if world_size > 1:
        arguments += ['--launcher', 'pytorch']
    # Forks, because importing everything anew takes longer than the run.
    context = multiprocessing.get_context('fork')
    processes = [
        context.Process(target=_main, args=(arguments, kill_at, prepare, each)) for each in environments(world_size)
    ]
    for process in processes:
        process.start()
    return processes


def was_killed(processes):
    """Wait for the processes of a run; whether they were killed."""
    # Not by join, which after a kill waits five seconds for the workers to find out.
    deadline = time.monotonic() + 120
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
        process.join()
    assert not hanging, 'the run hangs'
    (code,) = {process.exitcode for process in processes}
    assert code in (0, -signal.SIGKILL)
    return code != 0


def train(config, work_dir, **options):
    """Start a run and wait for it; whether it was killed."""
    return was_killed(start(config, work_dir, **options))


def result(work_dir):
    """What two equal runs share: parameters, teacher, optimizer, schedules, random states, and the order of keys."""
    checkpoint = read_checkpoint(work_dir / f'iter_{ITERATIONS}.pth')
    names = ('state_dict', 'optimizer', 'param_schedulers', 'random_states')
    keys = dict(map(json.loads, (work_dir / 'keys.txt').read_text().splitlines()))
    return {name: checkpoint[name] for name in names} | {'keys': keys}


def assert_same(found, expected, name=''):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), name
        for key, value in expected.items():
            assert_same(found[key], value, f'{name}.{key}')
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), name
        for index, value in enumerate(expected):
            assert_same(found[index], value, f'{name}.{index}')
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), name
    else:
        assert found == expected, name


def log_of(work_dir):
    return max(work_dir.glob('*/*.log'), key=lambda path: path.stat().st_mtime_ns).read_text()


@pytest.mark.parametrize(
    ('kind', 'workers', 'accumulate'),
    [('map', 2, 2), ('shards', 0, 2), ('shards', 2, 1)],
)
def test_killed_twice_and_resumed_equals_uninterrupted(tmp_path, write_config, kind, workers, accumulate):
    write_config(tmp_path / 'tiny.py', kind, workers, accumulate)
    # At the same time as the others, which have another folder.
    whole = start(tmp_path / 'tiny.py', tmp_path / 'whole')
    # Inside the first epoch, and in the second with the newest checkpoint at the end of the first.
    assert train(tmp_path / 'tiny.py', tmp_path / 'killed', kill_at=5)
    assert train(tmp_path / 'tiny.py', tmp_path / 'killed', kill_at=8)
    assert f'going on from {tmp_path}/killed/iter_6.pth' not in log_of(tmp_path / 'killed')
    assert not train(tmp_path / 'tiny.py', tmp_path / 'killed')
    assert f'going on from {tmp_path}/killed/iter_6.pth' in log_of(tmp_path / 'killed')
    assert not was_killed(whole)
    expected = result(tmp_path / 'whole')
    assert_same(result(tmp_path / 'killed'), expected)
    assert len(expected['keys']) == ITERATIONS
    assert any('teacher' in name for name in expected['state_dict'])
    counted = read_checkpoint(tmp_path / 'killed' / f'iter_{ITERATIONS}.pth')['meta']['mmmaskclip']
    assert (counted['dataset_size'], counted['samples_seen']) == (PAIRS, EPOCHS * PAIRS)


@pytest.fixture(scope='module')
def whole(tmp_path_factory, write_config):
    """Config of a run without workers, and the folder of that run."""
    folder = tmp_path_factory.mktemp('whole')
    write_config(folder / 'tiny.py', 'map', 0, 1)
    assert not train(folder / 'tiny.py', folder / 'run')
    return folder / 'tiny.py', folder / 'run'


def _kill_in_write():
    write, calls = checkpoint_files._HashedFile.write, []

    def killing(file, data):
        calls.append(None)
        if checkpoint_files.Path(file._file.name).name.startswith('.iter_6') and len(calls) % 9 == 0:
            file._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return write(file, data)

    checkpoint_files._HashedFile.write = killing


def _kill_in_call(number):
    """Kill at that call of fsync or replace in the second save."""
    calls = []

    def killing(function):
        def called(*args):
            if not calls and '.iter_6.pth.tmp' not in os.listdir(RUN[0]):
                return function(*args)
            calls.append(function)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args)

        return called

    os.fsync, os.replace = killing(os.fsync), killing(os.replace)


RUN: list[Path] = []


@pytest.mark.parametrize('point', ['in the data', 1, 3, 4, 5, 7])
def test_killed_inside_a_save(tmp_path, whole, point):
    config, expected = whole
    RUN[:] = [tmp_path]
    prepare = _kill_in_write if point == 'in the data' else lambda: _kill_in_call(point)
    assert train(config, tmp_path, prepare=prepare)
    # The second save is complete once its file has its name, which is the fourth call.
    assert (tmp_path / 'iter_6.pth').exists() == (point in (5, 7))
    assert not train(config, tmp_path)
    assert f'going on from {tmp_path}/iter_{6 if point in (5, 7) else 3}.pth' in log_of(tmp_path)
    assert_same(result(tmp_path), result(expected))
    # Nothing of the save that was cut off is left, and of the rest only what retention keeps.
    left = sorted(path.name for path in tmp_path.iterdir() if 'iter' in path.name)
    assert left == ['iter_12.pth', 'iter_12.pth.sha256', 'iter_9.pth', 'iter_9.pth.sha256']


@pytest.mark.parametrize('damage', ['truncated', 'flipped'])
def test_damaged_newest_checkpoint_is_named_and_the_one_before_taken(tmp_path, whole, damage):
    config, run = whole
    shutil.copytree(run, tmp_path / 'run')
    newest = tmp_path / 'run/iter_12.pth'
    if damage == 'truncated':
        os.truncate(newest, newest.stat().st_size - 1)
    else:
        with open(newest, 'r+b') as file:
            file.seek(newest.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 4]))
    assert not train(config, tmp_path / 'run')
    told = [line for line in log_of(tmp_path / 'run').splitlines() if '--resume auto' in line]
    assert 'WARNING' in told[0]
    assert f'going on from {tmp_path}/run/iter_9.pth. Damaged, not used: {newest}' in told[0]
    assert_same(result(tmp_path / 'run'), result(run))


def test_killed_and_resumed_with_other_numbers_of_processes(tmp_path, write_config):
    write_config(tmp_path / 'tiny.py', 'map', 0, 1)
    cfg, run = Config.fromfile(tmp_path / 'tiny.py'), tmp_path / 'run'
    # One less than the epoch of two processes could use up.
    pairs = Path(cfg.train_dataloader.dataset.ann_file)
    cfg.train_dataloader.dataset.ann_file = str(pairs.with_name('fewer.csv'))
    pairs.with_name('fewer.csv').write_text('\n'.join(pairs.read_text().splitlines()[:PAIRS]))
    cfg.param_scheduler = [
        dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=EPOCHS, T_max=EPOCHS, convert_to_iter_based=True)
    ]
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=20)
    cfg.dump(tmp_path / 'tiny.py')
    # An epoch is 11 pairs: 2 iterations of 2 x 2, or 5 of 1 x 2.
    assert train(tmp_path / 'tiny.py', run, kill_at=3, world_size=2)
    assert train(tmp_path / 'tiny.py', run, kill_at=8)
    log = log_of(run)
    assert 'Resumed with a difference: world_size was 2 and is 1' in log
    assert 'Continuing in epoch 2 after 4 of its samples: iteration 3 is now 7' in log
    assert not train(tmp_path / 'tiny.py', run, world_size=2)
    log = log_of(run)
    assert 'world_size was 1 and is 2' in log
    assert 'Continuing in epoch 2 after 6 of its samples: iteration 8 is now 3' in log
    seen = [json.loads(line) for line in (run / 'keys.txt').read_text().splitlines()]
    assert sorted(iteration for iteration, _ in seen) == [0, 0, 1, 1, 2, 2, 3, 3, 7]
    in_second = {tuple(keys) for iteration, keys in seen if iteration in (2, 7)}
    assert len({key for keys in in_second for key in keys}) == 6
    # Of fewer iterations than others, and yet the newest.
    newest, _ = checkpoint_files.newest_verified(run)
    assert newest == str(run / 'iter_4.pth')
    counted = read_checkpoint(newest)
    assert counted['meta']['mmmaskclip']['samples_seen'] == 4 + 4 + 4 + 2 + 4
    assert len(counted['random_states']) == 2
