"""Weights of a TorchScript archive, the form in which OpenAI published CLIP, without running what is in it.

``torch.load`` refuses such archives when it may not run code, and ``torch.jit.load`` compiles the program they hold.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmmaskclip.checkpoints.stand_in import StandIn


def is_torchscript(path: str | os.PathLike) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        # What torch.load itself tells them by.
        return any(name.endswith('/constants.pkl') for name in archive.namelist())


def read_torchscript(path: str | os.PathLike) -> dict[str, Tensor]:
    """Parameters and buffers of a TorchScript archive, on the CPU.

    Args:
        path: The archive.

    Returns:
        Tensors by name, as the state dict of what ``torch.jit.load`` gives has them.

    Raises:
        pickle.UnpicklingError: If the archive refers to something that is no part of a TorchScript module.
        zipfile.BadZipFile, KeyError: If it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        (data,) = (name for name in archive.namelist() if name.endswith('/data.pkl'))
        with archive.open(data) as file:
            module = _Reader(file, archive, data.removesuffix('.pkl')).load()
    return module.tensors()


class _Reader(pickle.Unpickler):
    """Only builds tensors, containers and stand-ins; everything else that the file names is an error."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Callable | str | type:
        if module.split('.')[0] == '__torch__':
            return StandIn
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
            return lambda flat, offset, size, stride, *_: flat.as_strided(size, stride, offset)
        if (module, name) == ('collections', 'OrderedDict'):
            return OrderedDict
        if module == 'torch.jit._pickle':
            return lambda value, *_: value
        if module == 'torch' and name.endswith('Storage'):
            return name
        raise pickle.UnpicklingError(f'GLOBAL {module}.{name}')

    def persistent_load(self, pid: Any) -> Tensor:
        _, kind, key, *_ = pid
        content = bytearray(self.archive.read(f'{self.folder}/{key}'))
        return torch.frombuffer(content, dtype=getattr(torch, kind).dtype) if content else torch.empty(0)
