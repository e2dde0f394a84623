import os
import socket
import subprocess

import pytest
import torch
from torch.distributed import HashStore

from mmmaskclip.startup import rendezvous
from mmmaskclip.startup.rendezvous import choose_interface, compare_processes, meet, set_slurm_environment


@pytest.fixture
def slurm(monkeypatch):
    """The environment of task 9 of 16 of a job, eight on a node, and a stand-in for scontrol."""
    for name in ('MASTER_ADDR', 'MASTER_PORT', 'WORLD_SIZE', 'RANK', 'LOCAL_RANK'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    given = {'PROCID': '9', 'NTASKS': '16', 'LOCALID': '1', 'NODELIST': 'gpu[3-4]', 'JOB_ID': '1234567'}
    for name, value in given.items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    answer = subprocess.CompletedProcess([], 0, stdout='gpu3\ngpu4\n')
    monkeypatch.setattr(subprocess, 'run', lambda *args, **kwargs: answer)


def test_slurm_gives_what_torchrun_gives_and_a_port_of_the_job(slurm, monkeypatch):
    set_slurm_environment()
    names = ('MASTER_ADDR', 'WORLD_SIZE', 'RANK', 'LOCAL_RANK')
    assert [os.environ[name] for name in names] == ['gpu3', '16', '9', '1']
    first = os.environ.pop('MASTER_PORT')
    assert 20000 <= int(first) < 40000
    monkeypatch.setenv('SLURM_JOB_ID', '1234568')
    set_slurm_environment()
    assert os.environ['MASTER_PORT'] != first


def test_slurm_leaves_what_the_user_has_set(slurm, monkeypatch):
    monkeypatch.setenv('MASTER_PORT', '5')
    monkeypatch.setenv('MASTER_ADDR', 'head')
    set_slurm_environment()
    assert (os.environ['MASTER_ADDR'], os.environ['MASTER_PORT']) == ('head', '5')


def test_a_store_that_is_not_reached_is_named(monkeypatch):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))  # does not listen
        for name, value in {
            'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': taken.getsockname()[1], 'RANK': 1, 'WORLD_SIZE': 2,
        }.items():  # fmt: skip
            monkeypatch.setenv(name, str(value))
        with pytest.raises(RuntimeError, match=r'store of the run at 127\.0\.0\.1:\d+ cannot be reached.*MASTER_PORT'):
            meet(1)


def test_interface_that_leads_to_rank_0(monkeypatch):
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', '')
    monkeypatch.delenv('GLOO_SOCKET_IFNAME')
    assert choose_interface('127.0.0.1') == os.environ['GLOO_SOCKET_IFNAME']
    assert os.environ['GLOO_SOCKET_IFNAME'] in [name for _, name in socket.if_nameindex()]
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', 'eth7')
    assert choose_interface('127.0.0.1') is None
    assert os.environ['GLOO_SOCKET_IFNAME'] == 'eth7'
    monkeypatch.delenv('GLOO_SOCKET_IFNAME')
    assert choose_interface('no.such.host.invalid') is None


def test_a_node_without_a_gpu_ends_the_start_with_its_rank(monkeypatch):
    monkeypatch.setattr(rendezvous, 'compare_ranks', lambda facts, *rest: asked.append(facts))
    asked = []
    compare_processes(HashStore(), 0, 2, 'cpu')
    assert asked[0]['device'] == 'cpu'
    assert asked[0]['number of processes'] == 2
    assert asked[0]['torch'] == torch.__version__

    def refuse(*_):
        raise RuntimeError('device: cuda on rank 0; cpu on rank 1.')

    monkeypatch.setattr(rendezvous, 'compare_ranks', refuse)
    with pytest.raises(RuntimeError, match=r'cpu on rank 1\. This is rank 1 \('):
        compare_processes(HashStore(), 1, 2, 'cpu')
