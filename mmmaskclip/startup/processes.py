"""Sets up a process before its Runner is built: device, limits, process group, DDP."""

from __future__ import annotations

import datetime
import gc
import logging
import os

import mmengine.device
import torch
from mmengine.config import Config
from mmengine.logging import print_log

from mmmaskclip.startup.devices import choose_device, use_cpu, warn_about_precision
from mmmaskclip.startup.machine import describe_settings, look_at_machine, raise_file_limit, shortages
from mmmaskclip.startup.rendezvous import choose_interface, compare_processes, meet, set_slurm_environment
from mmmaskclip.utils.exit_codes import CannotStart


def setup_processes(cfg: Config) -> None:
    """Prepare this process for a config: its device, its limits, and its place among the processes of the run.

    The device is a GPU if there is one, unless ``cfg.device='cpu'`` (``--device cpu``) asks for the CPU. With a
    launcher, the processes first connect to the store of the run and compare devices, versions and their number. Then
    this function creates the process group, NCCL for GPUs and gloo for CPUs; the Runner uses it.

    ``cfg.model_wrapper_cfg`` gets defaults for DDP. Buffers are not broadcast, because a ViT has none that change.
    Unused parameters are not searched, because the search walks the whole graph in each step;
    ``cfg.find_unused_parameters`` turns the search on.

    On CPUs ``SyncBN`` in ``cfg.model`` becomes ``BN``, with a warning, because torch has it for GPUs only. Each process
    then normalizes with its own part of the batch. At every step it receives the running statistics of process 0.

    Args:
        cfg: Config with ``launcher``; changed in place.

    Raises:
        CannotStart: If there is a GPU that torch cannot use, if launcher ``'slurm'`` finds no GPU and the CPU was not
            asked for, or if the processes do not fit together.
    """
    raise_file_limit()
    device = choose_device(cfg.get('device'))
    if device == 'cpu':
        if cfg.launcher == 'slurm' and cfg.get('device') != 'cpu':
            raise CannotStart(
                'launcher slurm needs a GPU on every node, and this process sees none. Check --gres, or add --device '
                'cpu for a run on CPUs.'
            )
        use_cpu()
    elif text := warn_about_precision((cfg.get('optim_wrapper') or {}).get('precision')):
        _warn(text)
    if cfg.launcher != 'none':
        _make_group(cfg, device)
        _set_wrapper(cfg, device)


def describe_start(cfg: Config) -> list[str]:
    """Lines for the log: the machine and its settings, then a warning for each limit that is too low for the config.

    Args:
        cfg: A config after :func:`setup_processes`.
    """
    machine = look_at_machine()
    local_processes = int(os.environ.get('LOCAL_WORLD_SIZE', os.environ.get('SLURM_NTASKS_PER_NODE', 1)))
    about = f'{machine}; {describe_settings(mmengine.device.get_device())}'
    return [about, *shortages(cfg, machine, local_processes)]


def _make_group(cfg: Config, device: str) -> None:
    settings = dict(cfg.get('env_cfg', {}).get('dist_cfg', {}))
    timeout = settings.get('timeout', 1800)
    if cfg.launcher == 'mpi':  # the Runner reads OpenMPI's variables
        return
    if cfg.launcher == 'slurm':
        set_slurm_environment()
    choose_interface(os.environ['MASTER_ADDR'])
    store, rank, world_size = meet(timeout)
    compare_processes(store, rank, world_size, device)
    if device == 'cuda':
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    torch.distributed.init_process_group(
        settings.get('backend', 'nccl') if device == 'cuda' else 'gloo',
        store=torch.distributed.PrefixStore('mmmaskclip', store),
        rank=rank,
        world_size=world_size,
        timeout=datetime.timedelta(seconds=timeout),
    )


def _set_wrapper(cfg: Config, device: str) -> None:
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
        gradient_as_bucket_view=True,  # gradients live in the buckets that DDP exchanges, which saves a copy of them
    )
    if device == 'cpu':
        wrapper['device_ids'] = None
        if _replace_sync_bn(cfg.get('model')) + bool(cfg.pop('sync_bn', None)):
            # Otherwise every process would evaluate with its own statistics, and only those of process 0 be saved.
            wrapper['broadcast_buffers'] = True
            _warn(
                'SyncBN works on GPUs only: BN takes its place, and every process normalizes with its own part of the '
                'batch.'
            )
    given = cfg.get('model_wrapper_cfg', {})
    # These arguments are DDP's; other wrappers do not take them.
    is_ddp = given.get('type', wrapper['type']).split('.')[-1] == wrapper['type']
    cfg.model_wrapper_cfg = {**wrapper, **given} if is_ddp else given


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)


def _replace_sync_bn(node: object) -> int:
    """Replace the type SyncBN everywhere in a config, in place, and count it."""
    if isinstance(node, list | tuple):
        return sum(map(_replace_sync_bn, node))
    if not isinstance(node, dict):
        return 0
    count = sum(map(_replace_sync_bn, node.values()))
    kind = node.get('type')
    if isinstance(kind, str) and kind.split('.')[-1] == 'SyncBN':
        node['type'] = kind.removesuffix('SyncBN') + 'BN'
        count += 1
    return count


def leave_processes() -> None:
    """Free what the Runner held, and leave the process group. Call this when nothing refers to the Runner any more.

    Reference cycles keep the Runner alive, and with it the workers of its loaders. At the interpreter's end they would
    get a SIGTERM, which they survive for two minutes (:func:`~mmmaskclip.startup.workers.outlive_signals`), and the
    process would wait for them.

    ``destroy_process_group`` alone is not enough: DDP keeps the group alive in reference cycles, and with it gloo's
    threads. At the interpreter's end a thread that still has a tensor to free aborts the process ("terminate called
    without an active exception", pytorch issue 190489). So this function first collects the cycles, which ends the
    threads.
    """
    gc.collect()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
