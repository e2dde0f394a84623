import importlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TINY = Path(__file__).parents[2] / 'tiny'


@pytest.fixture
def preempted(tiny_runner):
    """Returns a function that trains with a signal in iteration 5 and gives what ended it."""

    def run(number, **options):
        custom = [{'type': 'ModelStepHook'}, {'type': 'SignalAt', 'number': int(number), 'at': 4}]
        importlib.import_module('fault_parts')
        runner = tiny_runner(custom_hooks=custom, **options)
        with pytest.raises(BaseException) as stopped:  # noqa: PT011 - SystemExit or KeyboardInterrupt
            runner.train()
        for handled in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(handled, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return stopped.value

    options = {'default_hooks.checkpoint.interval': 100}
    return lambda number, **more: run(number, **options, **more)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_saves_the_iteration_and_the_resumed_run_equals_an_uninterrupted_one(
    preempted, tiny_runner, tmp_path, number
):
    stopped = preempted(number)
    assert isinstance(stopped, SystemExit)
    assert stopped.code == 75
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['iter_5.pth']
    custom = {'custom_hooks': [{'type': 'ModelStepHook'}]}
    late = tiny_runner(**custom, load_from=str(tmp_path / 'run/iter_5.pth'), resume=True)
    whole = tiny_runner(**custom)
    torch.testing.assert_close(late.train().state_dict(), whole.train().state_dict(), rtol=0, atol=0)
    assert late.model.seen == whole.model.seen[10:]


def test_an_accumulation_is_finished_first(preempted, tmp_path):
    assert preempted(signal.SIGTERM, **{'optim_wrapper.accumulative_counts': 4}).code == 75
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['iter_8.pth']


def test_ctrl_c_says_where_the_checkpoint_is(preempted, tmp_path):
    stopped = preempted(signal.SIGINT)
    assert isinstance(stopped, KeyboardInterrupt)
    assert f'No checkpoint was saved yet in {tmp_path}/run' in str(stopped)
    (tmp_path / 'run/last_checkpoint').write_text('iter_3.pth')
    assert 'The newest checkpoint is iter_3.pth' in str(preempted(signal.SIGINT))


def test_handlers_are_given_back(tiny_runner):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    tiny_runner(**{'train_cfg.max_epochs': 1}).train()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)] == before


def test_a_signal_to_one_of_two_ranks_saves_and_ends_both(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{TINY}/tiny.py'\n"
        "custom_imports = dict(imports=['tiny_parts', 'fault_parts'])\n"
        "train_dataloader = dict(batch_size=1, num_workers=1, dataset=dict(type='TinyPairs'),\n"
        "    sampler=dict(type='DefaultSampler', shuffle=True))\n"
        f"custom_hooks = [dict(type='SignalAt', number={int(signal.SIGTERM)}, at=6, rank=1)]\n"
        'default_hooks = dict(checkpoint=dict(interval=100))\n'
    )
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, 'tools/train.py', str(config), '--work-dir', str(tmp_path / 'run')]
    rendezvous = {'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, 'OMP_NUM_THREADS': '1'}
    root = TINY.parents[1]
    python_path = f'{root}:{TINY}'
    ranks = [
        subprocess.Popen(
            [*command, '--launcher', 'pytorch'],
            cwd=root,
            env=os.environ | rendezvous | {'RANK': str(rank), 'LOCAL_RANK': str(rank), 'PYTHONPATH': python_path},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [75, 75], errors
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['iter_7.pth']
