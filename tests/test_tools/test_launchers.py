import os
import shutil
import socket
import subprocess
import sys
import time

import paths
import pytest
import torch
from mmengine.config import Config
from ranks import free_port

from mmmaskclip.cli import cpus
from mmmaskclip.startup import launch_facts
from mmmaskclip.startup.machine import look_at_machine

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
        'OMP_NUM_THREADS=8', '-m', 'mmmaskclip.startup.torchrun', '--nnodes=1', '--node-rank=0', '--nproc-per-node=2',
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
        '#!/bin/sh\ncase $2 in *launch_facts*) echo 8 16 41234;;\n'
        '*) echo "OMP_NUM_THREADS=$OMP_NUM_THREADS $@";; esac\n'
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
        'OMP_NUM_THREADS=2', '-m', 'mmmaskclip.startup.torchrun', '--nnodes=4', '--node-rank=2', '--nproc-per-node=8',
        '--master-addr=node0', '--master-port=29501', 'tools/train.py', 'c.py', '--work-dir', 'w', '--launcher',
        'pytorch',
    ]  # fmt: skip


def test_two_runs_on_one_machine_take_two_ports(run_tool, fake_machine):
    done = run_tool('tools/dist_train.sh', 'c.py', 8, **fake_machine)
    assert '--master-port=41234' in done.stdout
    nodes = {'NNODES': '4', 'NODE_RANK': '2', 'MASTER_ADDR': 'node0'}
    assert '--master-port=29500' in run_tool('tools/dist_train.sh', 'c.py', 32, **nodes, **fake_machine).stdout


def test_the_launcher_asks_for_gpus_usable_cores_and_a_free_port(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 3)
    launch_facts.main()
    gpus, cores, port = map(int, capsys.readouterr().out.split())
    assert (gpus, cores) == (3, look_at_machine().cores)  # of the process and its container: test_machine.py
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', port))


RANK = """
import os, signal, sys, time
def save(*_):
    time.sleep({seconds})
    open(f'saved_{{os.environ["RANK"]}}', 'w').close()
    sys.exit({code})
signal.signal(signal.SIGTERM, save)
open(f'ready_{{os.environ["RANK"]}}', 'w').close()
time.sleep(60)
"""


def test_a_signal_reaches_the_processes_and_not_torchrun_which_would_kill_them(tmp_path):
    """torchrun's own 30 s are cut to one, and a rank takes two to save."""
    tools = tmp_path / 'tools'
    tools.mkdir()
    shutil.copy(paths.TOOLS / 'dist_launch.sh', tools)
    (tools / 'rank.py').write_text(RANK.format(seconds=2, code=75))
    python = tmp_path / 'python'
    hasty = 'import sys; from torch.distributed.elastic.multiprocessing import api; '
    hasty += 'from mmmaskclip.startup import torchrun; '
    hasty += 'close = api.PContext.close; api.PContext.close = lambda self, sig=None, timeout=1: close(self, sig, 1); '
    hasty += 'sys.argv[0] = "torchrun"; torchrun.run()'
    python.write_text(
        f"""#!/bin/sh
case $2 in *launch_facts*) echo 0 2 {free_port()};; *) shift 2; exec {sys.executable} -c '{hasty}' "$@";; esac
"""
    )
    python.chmod(0o755)
    environment = {**os.environ, 'PYTHON': str(python), 'PYTHONPATH': str(paths.ROOT)}
    process = subprocess.Popen(['sh', 'tools/dist_launch.sh', '2', 'rank.py'], cwd=tmp_path, env=environment)
    while not all((tmp_path / f'ready_{rank}').exists() for rank in range(2)):
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait(60) == 75
    assert sorted(path.name for path in tmp_path.glob('saved_*')) == ['saved_0', 'saved_1']


def test_slurm_asks_for_one_process_per_gpu(run_tool, tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    path = f'{tmp_path}:/usr/bin:/bin'
    arguments = ['tools/slurm_train.sh', 'p', 'j', 'c.py', 'w', '--resume']
    done = run_tool(*arguments, PATH=path, GPUS='16', PYTHON='python', CPUS_PER_TASK='5')
    assert done.stdout.split() == [
        '--partition=p', '--job-name=j', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8', '--cpus-per-task=5',
        '--kill-on-bad-exit=1', 'python', '-u', 'tools/train.py', 'c.py', '--work-dir', 'w', '--resume', '--launcher',
        'slurm',
    ]  # fmt: skip


def test_a_process_gets_cpus_for_the_workers_of_its_config(capsys):
    cpus.main(['configs/maskclip/vitb16_laion20m.py', '--work-dir', 'w', '--amp'])
    cpus.main(['maskclip/vitb16_laion20m.py', '--cfg-options', 'train_dataloader.num_workers=20'])
    workers = Config.fromfile(paths.CONFIGS / 'maskclip/vitb16_laion20m.py').train_dataloader.num_workers
    assert capsys.readouterr().out.split() == [str(workers + 2), '22']


@pytest.fixture
def cluster(run_tool, tmp_path):
    """Runs slurm_requeue.sh where ``srun`` ends with a code; gives the lines that were printed, and the errors."""

    def run(code, queue='true', ends_with=0, cpus='4', **environment):
        python = tmp_path / 'python'
        for name, script in (
            ('srun', f'echo "srun $@"; exit {code}'),
            ('scontrol', f'echo "scontrol $@"; {queue}'),
            ('python', 'echo 6'),  # CPUs per process
        ):
            (tmp_path / name).write_text(f'#!/bin/sh\n{script}\n')
            (tmp_path / name).chmod(0o755)
        given = {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'PYTHON': str(python), 'SLURM_JOB_ID': '40017'}
        given |= {'SLURM_CPUS_PER_TASK': cpus} if cpus else {}
        work_dir = tmp_path / 'work'
        done = run_tool('tools/slurm_requeue.sh', TINY, work_dir, code=ends_with, **given, **environment)
        return done.stdout.splitlines(), done.stderr

    return run


@pytest.mark.parametrize(('code', 'queue', 'ends_with'), [(0, 'true', 0), (75, 'true', 0), (75, 'false', 75)])
def test_slurm_puts_a_job_that_was_saved_into_the_queue_again(cluster, tmp_path, code, queue, ends_with):
    lines, errors = cluster(code, queue, ends_with)
    run = f'{tmp_path}/python -u tools/train.py {TINY} --work-dir {tmp_path}/work --resume auto --launcher slurm'
    # Where a cluster kills the others as soon as one has ended, their codes hide the 75.
    assert lines[0] == f'srun --cpus-per-task=4 --kill-on-bad-exit=0 --wait=120 {run}'
    assert lines[2:] == (['scontrol requeue 40017'] if code == 75 else [])
    assert ('job 40017 could not be queued again' in errors) == (queue == 'false')


def test_slurm_tries_a_run_that_failed_again_but_not_for_ever(cluster, tmp_path):
    hung = f'failed with 76 (it hung; see {tmp_path}/work/hang_rank*.txt), try 1 of 3 from checkpoint none'
    assert cluster(76)[0][1:] == [f'{hung}: job 40017 is queued again.', 'scontrol requeue 40017']
    assert 'try 2 of 3' in cluster(137)[0][1]
    (tmp_path / 'work/last_checkpoint').write_text('work/iter_1000.pth')
    assert 'try 1 of 3 from checkpoint work/iter_1000.pth' in cluster(1)[0][1]
    # srun's code is the highest: of a process whose peer died, not of the one that died.
    line = cluster(77)[0][1]
    assert 'failed with 77 (a process has died; look for the first error in the log), try 2 of 3' in line
    lines, errors = cluster(1, ends_with=1)
    assert len(lines) == 1
    assert '3 tries from checkpoint work/iter_1000.pth ended with an error, the last with 1' in errors
    (tmp_path / 'work/failed_tries').unlink()
    # Another try may get other machines.
    assert 'failed with 69 (a machine or its GPU cannot be used; the error names it), try 1' in cluster(69)[0][1]
    # A mistake of the user's is not tried again.
    (tmp_path / 'work/failed_tries').unlink()
    assert len(cluster(2, ends_with=2)[0]) == 1


def test_slurm_refuses_one_cpu_for_a_process_with_workers(cluster):
    lines, errors = cluster(0, ends_with=2, cpus='1')
    assert lines == []
    assert 'submit with --cpus-per-task=6' in errors
    # A node taken whole has CPUs without the option.
    whole = {'SLURM_CPUS_ON_NODE': '32', 'SLURM_NTASKS_PER_NODE': '8'}
    assert cluster(0, cpus=None, **whole)[0][0].startswith('srun --cpus-per-task=4 ')
