import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mmmaskclip.engine import WatchdogHook

TINY = Path(__file__).parents[2] / 'tiny'
ROOT = TINY.parents[1]


@pytest.fixture
def train(tmp_path):
    """Returns a function that trains tiny.py with a fault in processes of its own; gives exit codes and errors."""

    def run(dataset, workers=0, ranks=1, limit=5, hooks=()):
        os.mkfifo(tmp_path / 'pipe')
        config = tmp_path / 'config.py'
        config.write_text(
            f"_base_ = '{TINY}/tiny.py'\n"
            "custom_imports = dict(imports=['tiny_parts', 'fault_parts'])\n"
            f'train_dataloader = dict(batch_size=1, num_workers={workers}, dataset={dataset},\n'
            "    sampler=dict(type='DefaultSampler', shuffle=False))\n"
            f'custom_hooks = {list(hooks)}\n'
            f'default_hooks = dict(watchdog=dict(limit={limit}))\n'
        )
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = str(free.getsockname()[1])
        environment = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': f'{ROOT}:{TINY}'}
        environment |= {'WORLD_SIZE': str(ranks), 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
        command = [sys.executable, 'tools/train.py', str(config), '--work-dir', str(tmp_path / 'run')]
        command += ['--launcher', 'pytorch'] if ranks > 1 else []
        running = [
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment | {'RANK': str(rank), 'LOCAL_RANK': str(rank)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(ranks)
        ]
        try:
            errors = [process.communicate(timeout=300)[1] for process in running]
        finally:
            for process in running:
                process.kill()
        return [process.returncode for process in running], errors

    return run


def faulty(tmp_path, fault, rank=0):
    return {'type': 'FaultyPairs', 'fault': fault, 'folder': str(tmp_path), 'rank': rank}


@pytest.mark.parametrize('workers', [0, 2])
def test_a_stuck_reader_ends_the_run_with_the_stacks(train, tmp_path, workers):
    (code,), (error,) = train(faulty(tmp_path, 'pipe'), workers)
    assert code == 76, error
    assert 'HANG: rank 0 of 1 waited' in error
    assert 's for the batch of iteration 10 (its data loader); the limit is 5 s' in error
    stacks = (tmp_path / 'run/hang_rank0.txt').read_text()
    assert 'in read_from_stuck_pipe' in stacks
    # With workers the pipe is in one of theirs.
    assert ('--- child process' in stacks.partition('in read_from_stuck_pipe')[0]) == (workers > 0)


def test_a_killed_worker_names_the_rank(train, tmp_path):
    (code,), (error,) = train(faulty(tmp_path, 'kill'), workers=2)
    assert code == 1
    # The second where it died while a batch was on its way from it.
    assert 'is killed by signal: Killed' in error or 'A worker of the data loader is gone' in error
    assert 'ERROR: rank 0 of 1 failed during ' in error


def test_a_killed_rank_ends_the_other_which_names_it(train, tmp_path):
    kill = {'type': 'SignalAt', 'number': int(signal.SIGKILL), 'at': 4, 'rank': 1}
    codes, errors = train({'type': 'TinyPairs'}, ranks=2, hooks=[kill])
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, 75)
    assert 'ERROR: rank 0 of 2 failed during the training step of iteration 5' in errors[0], errors[0]
    assert 'Rank 1: DEAD or stopped' in errors[0]


def test_a_stopped_rank_is_named_by_the_one_that_waits_for_it(train, tmp_path):
    codes, errors = train(faulty(tmp_path, 'pipe', rank=1), ranks=2)
    assert codes[1] == 76
    assert codes[0] != 0
    assert 'HANG: rank 1 of 2 waited' in errors[1]
    assert 'Rank 0: alive, waits' in errors[1]


def test_the_watchdog_ends_with_the_run_also_when_an_error_ends_it(tiny_runner):
    runner = tiny_runner(**{'train_cfg.max_epochs': 1})
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, WatchdogHook)]
    excepthook = sys.excepthook
    runner.train()
    assert not hook._watchdog._thread.is_alive()
    assert sys.excepthook is excepthook

    broken = tiny_runner(**{'train_dataloader.dataset.error': 'nothing there'})
    (hook,) = [hook for hook in broken.hooks if isinstance(hook, WatchdogHook)]
    with pytest.raises(RuntimeError, match='nothing there'):
        broken.train()
    hook._watchdog._thread.join(30)
    assert not hook._watchdog._thread.is_alive()
    sys.excepthook = excepthook
