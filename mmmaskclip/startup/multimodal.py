"""Keeps mmpretrain's multimodal models out where the installed transformers is too new for them."""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.abc import MetaPathFinder


def leave_out_multimodal() -> None:
    """Let mmpretrain be imported beside transformers 5 and pycocotools.

    mmpretrain loads its multimodal models (BLIP, Flamingo, ...) where it finds both packages. They subclass what
    transformers 5 no longer has, so ``import mmpretrain.models`` ends with "TypeError: NoneType takes no arguments".
    mmpretrain has placeholders for an environment without the two, and here it takes them. transformers itself is
    not changed. With transformers 4, or none, nothing happens.
    """
    try:
        version = metadata.version('transformers')
    except metadata.PackageNotFoundError:
        return
    if int(version.partition('.')[0]) >= 5 and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds nothing; notices the first import of what asks for the multimodal models."""

    def find_spec(self, fullname, path, target=None):
        if fullname in ('mmpretrain.datasets', 'mmpretrain.models'):
            sys.meta_path.remove(self)
            from mmpretrain.utils import dependency

            dependency.WITH_MULTIMODAL = False
