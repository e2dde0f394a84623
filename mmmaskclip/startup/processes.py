"""What must be set up before a Runner is built."""

from __future__ import annotations

import datetime
import gc
import logging

import torch
from mmengine.config import Config
from mmengine.logging import print_log


def setup_processes(cfg: Config) -> None:
    """Make a config run in several processes, with GPUs or without.

    mmengine selects a GPU for every process and hands it to DDP, so a run without GPUs fails in both places: here the
    gloo group is made before the Runner, which then leaves it alone, and DDP gets no device. With or without GPUs
    ``cfg.model_wrapper_cfg`` gets defaults: no buffer broadcasts (a ViT has no buffers that change), no search for
    unused parameters (it walks the whole graph each step) unless ``cfg.find_unused_parameters`` says so.

    Without GPUs ``SyncBN`` in ``cfg.model`` becomes ``BN``, which the log tells: torch has it for GPUs only. Each
    process then normalizes with its own part of the batch, and takes over the running statistics of process 0 at every
    step.

    Args:
        cfg: Config with ``launcher``; changed in place. With launcher ``'none'`` nothing happens.

    Raises:
        RuntimeError: For launcher ``'slurm'`` without a GPU.
    """
    if cfg.launcher == 'none':
        return
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
        gradient_as_bucket_view=True,  # gradients live in the buckets that are exchanged: one copy of them less
    )
    if not torch.cuda.is_available():
        if cfg.launcher == 'slurm':
            raise RuntimeError(
                'launcher slurm needs a GPU on every node, and this process sees none. Check --gres, or start '
                'tools/dist_train.sh on each node for a run on CPUs.'
            )
        timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 1800)
        torch.distributed.init_process_group('gloo', timeout=datetime.timedelta(seconds=timeout))
        wrapper['device_ids'] = None
        if _replace_sync_bn(cfg.get('model')) + bool(cfg.pop('sync_bn', None)):
            # Else every process would evaluate with statistics of its own, and process 0's would be saved.
            wrapper['broadcast_buffers'] = True
            print_log(
                'SyncBN works on GPUs only: BN takes its place, and every process normalizes with its own part of the '
                'batch.',
                logger='current',
                level=logging.WARNING,
            )
    given = cfg.get('model_wrapper_cfg', {})
    # These are DDP's arguments, and no other wrapper's.
    is_ddp = given.get('type', wrapper['type']).split('.')[-1] == wrapper['type']
    cfg.model_wrapper_cfg = {**wrapper, **given} if is_ddp else given


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
    """End this process's part in the process group; call it when nothing refers to the Runner any more.

    ``destroy_process_group`` alone only forgets the group: DDP holds it in reference cycles, and gloo's threads live
    on into the interpreter's end, where one that still has a tensor to free aborts the process ("terminate called
    without an active exception", pytorch issue 190489). Collecting the cycles first ends those threads.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()
