"""Checkpoints from the web: one download for all processes of a node, cached by the whole address."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import urlparse

import torch
from filelock import FileLock
from mmengine.runner.checkpoint import get_external_models, get_torchvision_models

from mmmaskclip.utils.progress import shows_bars

# As mmengine and torch write the start of a file's SHA-256 into its name: NAME-89abcdef.pth.
_CHECKSUM = re.compile(r'-([0-9a-f]{8,})\.')


def local_path(source: str | os.PathLike) -> str:
    """The file on this machine of a path, an address, or a name in torchvision's or OpenMMLab's list of models.

    Raises:
        ValueError: If there is no such name, or it is an address of another kind, such as ``s3://``; see also
            :func:`~mmmaskclip.checkpoints.downloads.download`.
    """
    path = os.path.expanduser(os.fspath(source))
    scheme, _, name = path.partition('://')
    if scheme in ('torchvision', 'modelzoo', 'open-mmlab', 'openmmlab'):
        known = get_torchvision_models() if scheme in ('torchvision', 'modelzoo') else get_external_models()
        if name not in known:
            raise ValueError(f'{source}: there is no model of this name; give a file or an https:// address')
        path = known[name]
    elif name and scheme not in ('http', 'https'):
        raise ValueError(
            f'{source}: checkpoints are read from files and from https:// addresses, and not by {scheme}://. Copy it '
            'to a file first, and give its path.'
        )
    return download(path) if path.startswith(('http://', 'https://')) else path


def download(address: str) -> str:
    """Download a file into torch's cache, unless it is there. A progress bar appears where stderr is a terminal.

    The folder in the cache is named after the hash of the whole address, because many addresses end alike: every model
    of Hugging Face in ``model.safetensors``, every run in ``epoch_25.pth``. One process of a node downloads; the others
    wait at a file lock, which needs no process group.

    Args:
        address: ``https://...``; or ``http://...`` whose file name holds the start of its SHA-256
            (``NAME-89abcdef.pth``), because anybody on the way could replace the weights.

    Returns:
        Path of the file.

    Raises:
        OSError: If it cannot be reached or written.
        RuntimeError: If the file's SHA-256 does not begin as its name says.
        ValueError: If the address is ``http://`` without a checksum.
    """
    parts = urlparse(address)
    name = os.path.basename(parts.path)
    checksum = _CHECKSUM.search(name)
    if parts.scheme == 'http' and not checksum and parts.hostname not in ('localhost', '127.0.0.1', '::1'):
        raise ValueError(
            f'{address}: http:// does not protect the file on its way. Take the https:// address, download the file '
            'yourself and give its path, or put the start of its SHA-256 into the name: NAME-89abcdef.pth.'
        )
    folder = Path(torch.hub.get_dir(), 'checkpoints', hashlib.sha256(address.encode()).hexdigest()[:16])
    path = folder / (name or 'checkpoint')
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / 'download.lock'):
        if not path.is_file():
            # Written under another name and renamed, so that a killed process leaves no half of it.
            torch.hub.download_url_to_file(address, str(path), checksum and checksum[1], progress=shows_bars())
    return str(path)
