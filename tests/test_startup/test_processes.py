import gc
import weakref

import pytest
import torch
from mmengine.config import Config

from mmmaskclip.startup import processes
from mmmaskclip.startup.processes import leave_processes, setup_processes


@pytest.fixture
def groups(monkeypatch):
    """The process groups that were asked for, on a machine without GPUs; this is the only process."""
    asked = []
    monkeypatch.setattr(processes, 'meet', lambda timeout: (torch.distributed.HashStore(), 0, 1))
    monkeypatch.setattr(processes, 'use_cpu', lambda: None)
    monkeypatch.setattr(processes, 'raise_file_limit', lambda: None)
    monkeypatch.setattr('mmmaskclip.startup.devices.nvidia_driver', lambda: None)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    monkeypatch.setattr(torch.cuda, 'set_device', lambda device: None)
    monkeypatch.setattr(torch.cuda, 'get_arch_list', list)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda *_: (9, 0))
    for name, value in {'MASTER_ADDR': '127.0.0.1', 'LOCAL_RANK': '0', 'GLOO_SOCKET_IFNAME': 'lo'}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, 'set_slurm_environment', lambda: None)
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda *args, **kwargs: asked.append((args, kwargs)))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    return asked


def test_one_process_needs_nothing(groups):
    cfg = Config({'launcher': 'none'})
    setup_processes(cfg)
    assert not groups
    assert 'model_wrapper_cfg' not in cfg


def test_without_gpus_the_group_is_gloo_and_ddp_gets_no_device(groups):
    cfg = Config({'launcher': 'pytorch', 'env_cfg': {'dist_cfg': {'timeout': 60}}, 'find_unused_parameters': True})
    setup_processes(cfg)
    ((backend,), settings) = groups[0]
    assert backend == 'gloo'
    assert settings['timeout'].total_seconds() == 60
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters


def test_with_gpus_the_group_is_nccl_and_the_config_wins(groups, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg = Config({'launcher': 'slurm', 'model_wrapper_cfg': {'broadcast_buffers': True}})
    setup_processes(cfg)
    ((backend,), settings) = groups[0]
    assert backend == 'nccl'
    assert (settings['rank'], settings['world_size']) == (0, 1)
    assert 'device_ids' not in cfg.model_wrapper_cfg
    assert cfg.model_wrapper_cfg.broadcast_buffers
    assert not cfg.model_wrapper_cfg.find_unused_parameters


def test_slurm_without_gpus_is_refused(groups):
    with pytest.raises(RuntimeError, match='launcher slurm needs a GPU'):
        setup_processes(Config({'launcher': 'slurm'}))
    setup_processes(Config({'launcher': 'slurm', 'device': 'cpu'}))
    assert groups[0][0] == ('gloo',)


def test_a_broken_gpu_is_refused_before_any_group_is_made(groups, monkeypatch):
    monkeypatch.setattr('mmmaskclip.startup.devices.nvidia_driver', lambda: '535.104.05')
    for launcher in ('none', 'pytorch'):
        with pytest.raises(RuntimeError, match=r'driver 535\.104\.05'):
            setup_processes(Config({'launcher': launcher}))
    assert not groups


NORMS = {'backbone': {'norm_cfg': {'type': 'LN'}}, 'heads': [{'norm_cfg': {'type': 'SyncBN', 'requires_grad': True}}]}


def test_without_gpus_sync_bn_becomes_bn_everywhere(groups):
    cfg = Config({'launcher': 'pytorch', 'model': {**NORMS, 'neck': {'norm_cfg': {'type': 'mmpretrain.SyncBN'}}}})
    setup_processes(cfg)
    assert cfg.model.heads[0].norm_cfg == {'type': 'BN', 'requires_grad': True}
    assert cfg.model.neck.norm_cfg.type == 'mmpretrain.BN'
    assert cfg.model.backbone.norm_cfg.type == 'LN'
    assert cfg.model_wrapper_cfg.broadcast_buffers


def test_sync_bn_stays_with_gpus_and_nothing_is_broadcast_without_it(groups, monkeypatch):
    cfg = Config({'launcher': 'pytorch', 'model': {'backbone': NORMS['backbone']}})
    setup_processes(cfg)
    assert not cfg.model_wrapper_cfg.broadcast_buffers
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg = Config({'launcher': 'pytorch', 'model': NORMS})
    setup_processes(cfg)
    assert cfg.model.heads[0].norm_cfg.type == 'SyncBN'


def test_leaving_frees_what_only_cycles_hold():
    """A Runner that stays keeps its loader's workers, and the process waits two minutes for them at its end."""

    class Runner:
        pass

    runner = Runner()
    runner.hook = runner
    freed = weakref.ref(runner)
    del runner
    gc.disable()
    try:
        leave_processes()
    finally:
        gc.enable()
    assert freed() is None
