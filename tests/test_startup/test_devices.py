"""Drivers and GPUs are stand-ins: this machine may have none."""

import mmengine.device
import pytest
import torch

from mmmaskclip.cli.config import run_command
from mmmaskclip.startup import devices
from mmmaskclip.startup.devices import choose_device, nvidia_driver, use_cpu, warn_about_precision

DRIVER = 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Sat Sep 23 15:13:15 UTC 2023\nGCC version:  12\n'


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Returns a function that makes a machine of a driver, its GPUs, and what torch can do with them."""

    def build(driver=None, gpus=0, works=False, cuda='13.0', capability=(9, 0), kernels=('sm_75', 'sm_90')):
        file = tmp_path / 'version'
        if driver:
            file.write_text(DRIVER.format(driver))
        monkeypatch.setattr(devices, '_DRIVER_FILE', file)
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: works)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
        monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda *_: capability)
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda *_: 'Tesla V100' if capability[0] == 7 else 'H100')
        monkeypatch.setattr(torch.cuda, 'get_arch_list', lambda: list(kernels))
        monkeypatch.setattr(torch.version, 'cuda', cuda)
        monkeypatch.setattr(torch, '__version__', f'2.11.0+cu{cuda.replace(".", "")}' if cuda else '2.11.0+cpu')

    return build


def test_a_machine_without_a_driver_runs_on_the_cpu(machine):
    machine()
    assert nvidia_driver() is None
    assert choose_device() == 'cpu'
    with pytest.raises(RuntimeError, match='--device cuda: this machine has no NVIDIA driver'):
        choose_device('cuda')


def test_a_command_says_it_in_one_sentence_with_a_code_of_its_own(machine, capsys):
    machine('535.104.05', 8)
    with pytest.raises(SystemExit) as stopped:
        run_command(choose_device)
    assert stopped.value.code == 69
    output = capsys.readouterr()
    assert output.err.startswith('error: This machine has 8 NVIDIA GPUs (driver 535.104.05), but')
    assert 'Traceback' not in output.err


def test_a_gpu_that_works_is_used(machine):
    machine('580.65.06', 8, works=True)
    assert choose_device() == choose_device('cuda') == 'cuda'


def test_a_driver_that_is_too_old_is_an_error_that_names_it_the_build_and_another(machine):
    machine('535.104.05', 8)
    with pytest.raises(RuntimeError) as error:
        choose_device()
    text = str(error.value)
    assert '8 NVIDIA GPUs (driver 535.104.05), but torch 2.11.0+cu130 is built for CUDA 13.0' in text
    assert 'needs driver 580 or newer: update the driver, or install a build for an older CUDA' in text
    assert 'torch==2.11.0 torchvision --index-url https://download.pytorch.org/whl/cu126' in text
    assert text.endswith('add --device cpu.')


def test_a_driver_without_visible_gpus_is_not_the_cpu_either(machine, monkeypatch):
    machine('580.65.06')
    monkeypatch.setattr(torch.cuda, 'init', lambda: (_ for _ in ()).throw(RuntimeError('No CUDA GPUs are available')))
    with pytest.raises(RuntimeError, match='cannot use it: No CUDA GPUs are available. Look at nvidia-smi'):
        choose_device()


def test_a_build_for_cpus_on_a_machine_with_gpus_is_an_error(machine):
    machine('580.65.06', cuda=None)
    with pytest.raises(RuntimeError, match=r'but torch 2\.11\.0\+cpu is a build for CPUs: install a build'):
        choose_device()


def test_the_cpu_is_taken_where_it_is_asked_for(machine, monkeypatch):
    machine('535.104.05', 8)
    assert choose_device('cpu') == 'cpu'
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert choose_device() == 'cpu'


def test_a_gpu_without_kernels_is_named_with_a_build_that_has_them(machine):
    machine('580.65.06', 1, works=True, capability=(7, 0))
    with pytest.raises(RuntimeError, match=r'no kernels for Tesla V100 \(sm_70\), only for sm_75, sm_90.*--amp fp16'):
        choose_device()


@pytest.mark.parametrize(
    ('capability', 'kernels'),
    [((8, 6), ('sm_80', 'sm_90')), ((10, 0), ('sm_90', 'compute_90')), ((9, 0), ('sm_90',)), ((9, 0), ())],
)
def test_kernels_of_the_same_generation_or_to_be_compiled_are_enough(machine, capability, kernels):
    machine('580.65.06', 1, works=True, capability=capability, kernels=kernels)
    assert choose_device() == 'cuda'


def test_emulated_bf16_is_named(machine, monkeypatch):
    machine('580.65.06', 1, works=True, capability=(7, 5))
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: including_emulation)
    assert 'bf16 is emulated' in warn_about_precision('bf16')
    assert 'use --amp fp16' in warn_about_precision('bf16')
    assert warn_about_precision('fp16') is None
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: True)
    assert warn_about_precision('bf16') is None


def test_mmengine_follows(monkeypatch):
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'cuda')
    use_cpu()
    assert mmengine.device.get_device() == 'cpu'
