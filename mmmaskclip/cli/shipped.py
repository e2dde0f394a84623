"""The configs and tools that come with the package, in a clone and in an installed wheel."""

from __future__ import annotations

import os.path as osp
from pathlib import Path


def shipped(folder: str) -> Path:
    """The folder ``'configs'`` or ``'tools'``. A wheel has it in ``mmmaskclip/.mim``, where OpenMMLab's tools look."""
    return Path(__file__).parents[1] / '.mim' / folder


def find_config(path: str) -> str:
    """Find a config that is named by its path, or by its path below the shipped ``configs/``.

    Returns:
        The path of the file; the argument unchanged if there is none.
    """
    inside = shipped('configs') / path.removeprefix('configs/').removeprefix('mmmaskclip::')
    return path if osp.isfile(path) or not inside.is_file() else str(inside)


def register_shipped_configs() -> None:
    """Let a config inherit a shipped one: ``_base_ = 'mmmaskclip::maskclip/vitb16_laion20m.py'``."""
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.setdefault('mmmaskclip', 'mmmaskclip')
