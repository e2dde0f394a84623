import os
import sys

import paths
import pytest
import torch
from ranks import free_port

TINY = paths.TINY / 'tiny.py'
NOISE = ('MultiScaleDeformableAttention', 'Line NMS', 'OneDL', 'FileClient', 'Failed to search registry')


def test_trains_in_two_processes(run_tool, tmp_path):
    options = ['--cfg-options', 'train_dataloader.batch_size=1', 'train_cfg.max_epochs=1']
    done = run_tool('tools/dist_train.sh', TINY, 2, '--work-dir', tmp_path, *options, PORT=free_port())
    output = done.stdout + done.stderr
    assert 'Epoch [1/1][16/16]' in output
    assert not [noise for noise in NOISE if noise in output]
    assert list(tmp_path.glob('*/vis_data/events.out.tfevents*'))
    assert torch.load(tmp_path / 'iter_16.pth', weights_only=False)['optimizer']['steps_taken'] == 16


def test_evaluation_is_started_by_the_same_launcher(run_tool, fake_machine):
    done = run_tool('tools/dist_test.sh', 'c.py', 'a.pth', 2, '--out', 'two.json', PORT='29501', **fake_machine)
    assert done.stdout.split() == [
        'OMP_NUM_THREADS=8', '-m', 'torch.distributed.run', '--nnodes=1', '--node-rank=0', '--nproc-per-node=2',
        '--master-addr=127.0.0.1', '--master-port=29501', 'tools/test.py', 'c.py', 'a.pth', '--out', 'two.json',
        '--launcher', 'pytorch',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('command', 'environment', 'message'),
    [
        (['tools/dist_train.sh', TINY], {}, 'Usage: '),
        (['tools/dist_train.sh', TINY, 'two'], {}, "must be a positive number, found 'two'"),
        (['tools/dist_train.sh', TINY, '3'], {'NNODES': '2'}, '3 processes cannot be spread evenly over NNODES=2'),
        (['tools/dist_train.sh', TINY, '4'], {'NNODES': '2'}, 'NNODES=2 needs NODE_RANK, 0 to 1, and MASTER_ADDR'),
        (['tools/dist_test.sh', TINY, 'none'], {}, 'Usage: '),
        (['tools/slurm_train.sh', 'partition', 'job', TINY], {}, 'Usage: '),
        (['tools/slurm_test.sh', 'partition', 'job', TINY], {}, 'Usage: '),
        (['tools/slurm_requeue.sh', TINY], {}, 'Usage: '),
    ],
)
def test_shell_tools_refuse_with_the_reason(run_tool, command, environment, message):
    assert message in run_tool(*command, code=2, **environment).stderr


@pytest.fixture
def fake_machine(tmp_path):
    """A ``python`` that claims 8 GPUs and 16 cores and only prints how torchrun would have been called."""
    python = tmp_path / 'python'
    python.write_text(
        '#!/bin/sh\ncase $2 in *device_count*) echo 8 16;;\n*) echo "OMP_NUM_THREADS=$OMP_NUM_THREADS $@";; esac\n'
    )
    python.chmod(0o755)
    return {'PYTHON': str(python)}


def test_more_processes_than_gpus_says_what_to_set(run_tool, fake_machine):
    done = run_tool('tools/dist_train.sh', 'c.py', 32, '--amp', code=2, **fake_machine)
    assert '32 per machine, but this one has 8 GPU(s)' in done.stderr
    assert 'NNODES=4 NODE_RANK=0..3 MASTER_ADDR=<address of machine 0> tools/dist_train.sh c.py 32 --amp' in done.stderr


def test_total_is_spread_over_machines(run_tool, fake_machine):
    nodes = {'NNODES': '4', 'NODE_RANK': '2', 'MASTER_ADDR': 'node0', 'PORT': '29501'}
    done = run_tool('tools/dist_train.sh', 'c.py', 32, '--work-dir', 'w', **nodes, **fake_machine)
    assert done.stdout.split() == [
        'OMP_NUM_THREADS=2', '-m', 'torch.distributed.run', '--nnodes=4', '--node-rank=2', '--nproc-per-node=8',
        '--master-addr=node0', '--master-port=29501', 'tools/train.py', 'c.py', '--work-dir', 'w', '--launcher',
        'pytorch',
    ]  # fmt: skip


def test_slurm_asks_for_one_process_per_gpu(run_tool, tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    path = f'{tmp_path}:/usr/bin:/bin'
    done = run_tool('tools/slurm_train.sh', 'p', 'j', 'c.py', 'w', '--resume', PATH=path, GPUS='16', PYTHON='python')
    assert done.stdout.split() == [
        '--partition=p', '--job-name=j', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8', '--cpus-per-task=5',
        '--kill-on-bad-exit=1', 'python', '-u', 'tools/train.py', 'c.py', '--work-dir', 'w', '--resume', '--launcher',
        'slurm',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('code', 'queue', 'ends_with'), [(0, 'true', 0), (75, 'true', 0), (75, 'false', 75), (1, 'true', 1)]
)
def test_slurm_puts_a_job_that_was_saved_into_the_queue_again(run_tool, tmp_path, code, queue, ends_with):
    for name, script in (('srun', f'echo "srun $@"; exit {code}'), ('scontrol', f'echo "scontrol $@"; {queue}')):
        (tmp_path / name).write_text(f'#!/bin/sh\n{script}\n')
        (tmp_path / name).chmod(0o755)
    done = run_tool(
        'tools/slurm_requeue.sh',
        TINY,
        'work',
        code=ends_with,
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        SLURM_JOB_ID='17',
    )
    lines = done.stdout.splitlines()
    run = f'{sys.executable} -u tools/train.py {TINY} --work-dir work --resume auto --launcher slurm'
    # Where a cluster kills the others as soon as one has ended, their codes hide the 75.
    assert lines[0] == f'srun --kill-on-bad-exit=0 {run}'
    assert lines[1:] == (['scontrol requeue 17'] if code == 75 else [])
    assert ('job 17 could not be queued again' in done.stderr) == (queue == 'false')
