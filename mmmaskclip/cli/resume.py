"""``--resume``: which checkpoint a training run continues from."""

from __future__ import annotations

import os.path as osp
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmaskclip.checkpoints.files import newest_verified, verify_checkpoint
from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.utils.store import on_rank_0


def set_resume_on_all_ranks(cfg: Config, resume: str) -> str:
    """Call :func:`set_resume` on rank 0 and send the result to the others, so that a 3 GB file is hashed only once.

    Collective, once there is a process group.

    Args:
        cfg: See :func:`set_resume`.
        resume: See :func:`set_resume`.

    Returns:
        The message for the user, on all ranks.

    Raises:
        ConfigMistake: See :func:`set_resume`; on all ranks.
    """

    def decide() -> dict[str, Any]:
        try:
            note = set_resume(cfg, resume)
        except ConfigMistake as mistake:
            return {'mistake': str(mistake)}
        return {'note': note, 'load_from': cfg.get('load_from'), 'resume': cfg.resume}

    decision = on_rank_0(decide, 'verifying the checkpoints')
    if 'mistake' in decision:
        raise ConfigMistake(decision['mistake'])
    cfg.load_from, cfg.resume = decision['load_from'], decision['resume']
    return decision['note']


def set_resume(cfg: Config, resume: str) -> str:
    """Point the run at the checkpoint to resume.

    mmengine's own search only reads the file ``last_checkpoint``. If that file is missing, mmengine starts from scratch
    without a message.

    Args:
        cfg: The config; ``load_from`` and ``resume`` are changed.
        resume: Path or address of a checkpoint, or ``'auto'`` for the newest intact one in ``cfg.work_dir``, or
            where the checkpoint hook's ``out_dir`` puts it; see
            :func:`~mmmaskclip.checkpoints.files.newest_verified`. If there is none, ``load_from`` stays.

    Returns:
        The message for the user; it names the damaged checkpoints.

    Raises:
        ConfigMistake: If the given file does not exist or is damaged, or if all checkpoints in the work directory are
            damaged.
    """
    if resume.startswith(('http://', 'https://')):
        cfg.load_from, cfg.resume = resume, True
        return f'--resume: going on from {resume}.'
    if resume != 'auto':
        if not Path(resume).is_file():
            raise ConfigMistake(f'--resume {resume}: there is no such checkpoint.')
        if problem := verify_checkpoint(resume):
            raise ConfigMistake(f'--resume {resume}: it is damaged, {problem}. Take --resume auto, or an earlier one.')
        cfg.load_from, cfg.resume = resume, True
        return f'--resume: going on from {resume}.'
    folder = _checkpoint_folder(cfg)
    newest, damaged = newest_verified(folder)
    notes = ' '.join(f'Damaged, not used: {path} ({problem}).' for path, problem in damaged)
    if newest is None and damaged:
        raise ConfigMistake(
            f'--resume auto: every checkpoint in {folder} is damaged. {notes} Remove them to start from scratch.'
        )
    cfg.resume = newest is not None
    if newest is None:
        start = f'with the weights of {cfg.load_from}' if cfg.get('load_from') else 'from scratch'
        return f'--resume auto: there is no checkpoint in {folder}. Training starts {start}.'
    cfg.load_from = newest
    return f'--resume auto: going on from {newest}.' + (f' {notes}' if notes else '')


def _checkpoint_folder(cfg: Config) -> str:
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    # mmengine's checkpoint hook joins the paths in this way.
    return osp.join(hook['out_dir'], osp.basename(cfg.work_dir.rstrip('/'))) if hook.get('out_dir') else cfg.work_dir
