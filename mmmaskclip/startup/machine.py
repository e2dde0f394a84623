"""Limits of the machine for this process, and warnings where a config needs more."""

from __future__ import annotations

import os
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmmaskclip.startup.devices import nvidia_driver
from mmmaskclip.startup.workers import count_parts, parts_ahead

_CGROUP = Path('/sys/fs/cgroup')
_SHARED_MEMORY = '/dev/shm'
# Number of files that a process has open besides those of its batches.
_OTHER_FILES = 256
_MOST_FILES = 2**20


@dataclass(frozen=True)
class Machine:
    """Limits of this process, or of the machine where the process has none.

    Attributes:
        cores: CPUs that the process may use.
        memory: Bytes of memory; None if unknown.
        shared_memory: Free bytes of ``/dev/shm``, through which workers send batches; None if there is none.
        open_files: Number of files that the process may open.
        driver: Version of the NVIDIA driver; None if there is none.
    """

    cores: int
    memory: int | None
    shared_memory: int | None
    open_files: int
    driver: str | None

    def __str__(self) -> str:
        parts = [f'{self.cores} cores', f'memory {_gib(self.memory)}', f'/dev/shm {_gib(self.shared_memory)} free']
        parts += [f'{self.open_files} open files', f'NVIDIA driver {self.driver or "none"}']
        return ', '.join(parts)


def look_at_machine() -> Machine:
    """Read the limits of this process."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    files = _MOST_FILES if files == resource.RLIM_INFINITY else files
    return Machine(usable_cores(), _memory(), _shared_memory(), files, nvidia_driver())


def raise_file_limit() -> None:
    """Raise this process's limit of open files as far as allowed. Each tensor that a worker sends is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < raised:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))


def describe_settings(device: str) -> str:
    """Settings that change speed or last digits, for the log."""
    parts = [f'device {device}', f'threads {torch.get_num_threads()}']
    if device == 'cuda':
        parts += [
            f'{torch.cuda.get_device_name()}',
            f'torch {torch.__version__} (CUDA {torch.version.cuda})',
            f'float32 matmul {torch.get_float32_matmul_precision()}',
            f'TF32 in cuDNN {torch.backends.cudnn.allow_tf32}',
        ]
    for name in ('GLOO_SOCKET_IFNAME', 'NCCL_SOCKET_IFNAME', 'MASTER_ADDR', 'MASTER_PORT'):
        if name in os.environ:
            parts.append(f'{name}={os.environ[name]}')
    return ', '.join(parts)


def shortages(cfg: Config, machine: Machine, local_processes: int) -> list[str]:
    """Sentences about limits of this machine that are too low for a config's training loader, with the remedy.

    Args:
        cfg: The config.
        machine: The machine's limits.
        local_processes: Number of the run's processes on this machine, which share its limits.
    """
    loader: dict[str, Any] = cfg.get('train_dataloader') or {}
    workers, batch = loader.get('num_workers', 0), loader.get('batch_size', 1)
    if not workers:
        return []
    texts, ahead = [], loader.get('prefetch_factor') or 2
    needed = local_processes * (workers // 2 + 1)
    if machine.cores < needed:
        texts.append(
            f'{machine.cores} cores are few for {local_processes} processes with {workers} workers each: give at least '
            f'{needed} (srun --cpus-per-task, or the limit of the container), or lower train_dataloader.num_workers.'
        )
    parts = count_parts(batch, workers) if _divides_batches(loader) else 1
    ahead = parts_ahead(parts, workers, ahead)
    in_flight = local_processes * workers * ahead * batch // parts * _bytes_per_sample(cfg)
    if machine.shared_memory is not None and machine.shared_memory < in_flight:
        texts.append(
            f'/dev/shm has {_gib(machine.shared_memory)} free, and the batches on their way from the workers need '
            f'about {_gib(in_flight)}; a worker would die with a bus error. Start the container with --shm-size (or '
            '--ipc=host), or lower num_workers or batch_size.'
        )
    # Batches of the toolboxes are lists, in which each sample is a file of its own; ours are stacked.
    files = _OTHER_FILES + workers * ahead * (batch if _is_list_of_samples(loader) else 8)
    if machine.open_files < files:
        texts.append(
            f'This process may open {machine.open_files} files, and its batches need about {files}: raise the limit '
            '(ulimit -Hn, or LimitNOFILE of the service), or lower num_workers or batch_size.'
        )
    return texts


def _is_list_of_samples(loader: dict[str, Any]) -> bool:
    return _name(loader.get('collate_fn'), 'pseudo_collate') == 'pseudo_collate'


def _divides_batches(loader: dict[str, Any]) -> bool:
    """Whether workers deliver large batches in parts, as the training loop decides it once the loader is built."""
    return _name(loader.get('collate_fn')) == 'collate_image_text' and _name(loader.get('dataset')) != 'MixedSources'


def _name(part: dict[str, Any] | None, default: str = '') -> str:
    kind = (part or {}).get('type', default)
    return kind.split('.')[-1].split('/')[-1] if isinstance(kind, str) else ''


def _bytes_per_sample(cfg: Config) -> int:
    size = (cfg.get('model') or {}).get('image_encoder', {}).get('img_size', 224)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return 3 * height * width


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and its container's limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    quota, _, period = _read(_CGROUP / 'cpu.max').partition(' ')
    if quota.isdigit() and period.strip().isdigit():
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _memory() -> int | None:
    total = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    limit = _read(_CGROUP / 'memory.max').strip()
    return min(total, int(limit)) if limit.isdigit() else total


def _shared_memory() -> int | None:
    return shutil.disk_usage(_SHARED_MEMORY).free if os.path.isdir(_SHARED_MEMORY) else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ''


def _gib(size: int | None) -> str:
    return 'unknown' if size is None else f'{size / 2**30:.1f} GiB'
