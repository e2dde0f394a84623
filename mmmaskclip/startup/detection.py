"""Keeps mmpretrain from importing mmdet, which takes two of the seven seconds of a command's imports."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_MODULE = 'mmpretrain.models.utils.res_layer_extra_norm'


def leave_out_detection() -> None:
    """Let mmpretrain be imported as in an environment without mmdet, unless mmdet is imported already.

    mmpretrain imports mmdet for one class, ``ResLayerExtraNorm``, which it adds to mmdet's registry for detectors with
    a C4 head. A program that needs it imports ``mmdet.models`` before ``mmmaskclip.models``.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the one module that asks for mmdet."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Placeholder()) if fullname == _MODULE and 'mmdet' not in sys.modules else None


class _Placeholder(Loader):
    """Gives what that module is in an environment without mmdet."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__['ResLayerExtraNorm'] = None
