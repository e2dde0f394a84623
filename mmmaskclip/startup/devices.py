"""The device of a run: a GPU, or a CPU because the user asked for it or the machine has no GPU."""

from __future__ import annotations

import os
import re
from pathlib import Path

import mmengine.device.utils
import torch

from mmmaskclip.utils.exit_codes import CannotStart

_DRIVER_FILE = Path('/proc/driver/nvidia/version')
# The oldest driver of a CUDA version (NVIDIA's release notes of the CUDA toolkit, "minor version compatibility").
_OLDEST_DRIVER = {11: '450', 12: '525', 13: '580'}
_OTHER_BUILDS = (
    'install a build for an older CUDA, for example `pip install --force-reinstall torch=={torch} torchvision '
    '--index-url https://download.pytorch.org/whl/cu126`'
)
_ON_THE_CPU = 'To run on the CPU all the same, add --device cpu.'


def choose_device(asked: str | None = None) -> str:
    """Choose the device, and refuse to fall back to the CPU where a GPU is present.

    Args:
        asked: ``'cuda'`` or ``'cpu'``; None takes a GPU if there is one. An empty ``CUDA_VISIBLE_DEVICES`` also asks
            for the CPU.

    Returns:
        ``'cuda'`` or ``'cpu'``.

    Raises:
        CannotStart: If torch cannot use the GPU or its driver, or if a GPU is asked for and there is none. The message
            names the driver, the build of torch, and what to install.
    """
    if asked == 'cpu' or (asked is None and os.environ.get('CUDA_VISIBLE_DEVICES') == ''):
        return 'cpu'
    if torch.cuda.is_available():
        _check_kernels()
        return 'cuda'
    driver, count = nvidia_driver(), _count_by_driver()
    if driver or count:
        raise CannotStart(_why_not(driver, count))
    if asked == 'cuda':
        raise CannotStart(f'--device cuda: this machine has no NVIDIA driver ({_DRIVER_FILE} is not there).')
    return 'cpu'


def find_device(name: str | None = None) -> torch.device:
    """The device of an inference: of this name, or a GPU if there is one.

    Args:
        name: As torch names devices, e.g. ``'cuda:1'``. Defaults to None: a GPU if torch sees one, else the CPU.

    Raises:
        ValueError: If there is no such kind of device, or no GPU that torch can use.
    """
    gpu = torch.cuda.is_available()
    try:
        device = torch.device(name or ('cuda' if gpu else 'cpu'))
    except RuntimeError:
        raise ValueError(f"device={name!r}: choose 'cpu', 'cuda', one GPU of several as 'cuda:1', or 'mps'") from None
    if device.type == 'cuda' and not gpu:
        raise ValueError(f"device={name!r}, but torch sees no GPU on this machine: choose 'cpu', or leave it out")
    return device


def use_cpu() -> None:
    """Let mmengine put models and batches on the CPU, also where torch sees a GPU."""
    # mmengine decides when it is imported, and has no public way to change that.
    mmengine.device.utils.DEVICE = 'cpu'


def nvidia_driver() -> str | None:
    """Version of the NVIDIA driver of this machine, such as ``'535.104.05'``; None if there is none."""
    try:
        text = _DRIVER_FILE.read_text()
    except OSError:
        return None
    match = re.search(r'\s(\d+\.\d+(?:\.\d+)?)\s', text)
    return match[1] if match else 'unknown'


def warn_about_precision(precision: str | None) -> str | None:
    """A warning if the GPU only emulates bf16, which is many times slower; None otherwise."""
    if precision != 'bf16' or torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    major, minor = torch.cuda.get_device_capability()
    return (
        f'bf16 is emulated on {torch.cuda.get_device_name()} (compute capability {major}.{minor}) and many times '
        'slower than float16: use --amp fp16. GPUs from compute capability 8.0 on have bf16.'
    )


def _count_by_driver() -> int:
    """Number of GPUs that NVIDIA's management library sees, which needs no CUDA."""
    try:
        return torch.cuda.device_count()
    except RuntimeError:
        return 0


def _check_kernels() -> None:
    """Raise if this build of torch has no kernels for the GPU; torch itself would fail in the first operation."""
    major, minor = torch.cuda.get_device_capability()
    kinds = [(kind, int(number)) for kind, number in re.findall(r'(sm|compute)_(\d+)', ' '.join(_architectures()))]
    capability = 10 * major + minor
    usable = any(
        number <= capability and (kind == 'compute' or number // 10 == major)  # PTX is compiled for newer GPUs
        for kind, number in kinds
    )
    if kinds and not usable:
        built = ', '.join(f'{kind}_{number}' for kind, number in kinds)
        raise CannotStart(
            f'torch {torch.__version__} has no kernels for {torch.cuda.get_device_name()} (sm_{capability}), only for '
            f'{built}: {_OTHER_BUILDS.format(torch=_plain_version())}, which has kernels from sm_50 to sm_90 (a V100 '
            f'is sm_70; train it with --amp fp16). {_ON_THE_CPU}'
        )


def _architectures() -> list[str]:
    return torch.cuda.get_arch_list()


def _why_not(driver: str | None, count: int) -> str:
    seen = f'This machine has {f"{count} NVIDIA GPUs" if count else "an NVIDIA driver"}'
    if driver:
        seen += f' (driver {driver})'
    cuda, build = torch.version.cuda, f'torch {torch.__version__}'
    other = _OTHER_BUILDS.format(torch=_plain_version())
    if cuda is None:
        return f'{seen}, but {build} is a build for CPUs: {other}. {_ON_THE_CPU}'
    oldest = _OLDEST_DRIVER.get(int(cuda.split('.')[0]))
    if driver and oldest and driver != 'unknown' and int(driver.split('.')[0]) < int(oldest):
        return (
            f'{seen}, but {build} is built for CUDA {cuda}, which needs driver {oldest} or newer: update the driver, '
            f'or {other}. {_ON_THE_CPU}'
        )
    return (
        f'{seen}, but {build} (CUDA {cuda}) cannot use it: {_reason()}. Look at nvidia-smi and at '
        f'CUDA_VISIBLE_DEVICES={os.environ.get("CUDA_VISIBLE_DEVICES", "(not set)")}. {_ON_THE_CPU}'
    )


def _plain_version() -> str:
    return torch.__version__.split('+')[0]


def _reason() -> str:
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0]
    return 'torch gives no reason'
