"""Checkpoint files: atomic writing, verification, and the search for the newest intact one."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmmaskclip.checkpoints.safe_load import DAMAGE, HISTORY, NUMBERS

_NUMBERED = re.compile(r'(?:iter|epoch)_(\d+)\.pth')
# Programs that read checksums skip lines with #.
_CHECKSUM = re.compile(r'(?:# save (\d+)\n)?([0-9a-f]{64})')
_BLOCK = 2**20


class _HashedFile:
    """A file that hashes what is written to it and keeps the first error.

    torch's writer would continue after an error and fail with another one, which does not say that the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, 'wb')  # noqa: SIM115 - closed by close()
        self._hash = hashlib.sha256()
        self._error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        if self._error is None:
            try:
                self._file.write(data)
                self._hash.update(data)
            except OSError as error:
                self._error = error
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> str:
        """Bring everything to the disk; returns the SHA-256 of it."""
        try:
            if self._error is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            try:
                self._file.close()
            except OSError as error:
                self._error = self._error or error
        if self._error is not None:
            raise self._error
        return self._hash.hexdigest()


def write_checkpoint(path: str | os.PathLike, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint atomically: after a crash or power cut ``path`` holds the old file, the new one, or nothing.

    The function writes a temporary file in the same folder, flushes it to the disk and renames it. ``PATH.sha256``,
    which ``sha256sum -c`` reads, holds the SHA-256 and the number of the save: one more than the highest in the folder.
    While the function replaces a file, ``PATH.sha256`` holds the checksums of both.

    Args:
        path: Target; its folder is created if it does not exist.
        checkpoint: What :func:`plain` returned.

    Raises:
        OSError: If the disk is full, or the folder is not writable. The old file remains.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        file = _HashedFile(temporary)
        try:
            torch.save(checkpoint, file)  # type: ignore[arg-type] # it needs write() only
        finally:
            digest = file.close()
        replaced = (_listed(path) or {sha256_of(path): 0}) if path.exists() else {}
        saves = [number for other in path.parent.glob('*.sha256') for number in _read_checksums(other).values()]
        listed = {digest: 1 + max(saves, default=0)}
        _write_text(_sidecar(path), _checksum_lines(path, replaced | listed))
        os.replace(temporary, path)
        _sync_folder(path.parent)
        if replaced.keys() - listed.keys():
            _write_text(_sidecar(path), _checksum_lines(path, listed))
    finally:
        temporary.unlink(missing_ok=True)


def write_last_checkpoint(folder: str | os.PathLike, path: str | os.PathLike) -> None:
    """Name the newest checkpoint of a folder in its file ``last_checkpoint``, as mmengine does, but at once."""
    _write_text(Path(folder, 'last_checkpoint'), os.fspath(path))


def remove_checkpoint(path: str | os.PathLike) -> None:
    """Remove a checkpoint and its checksum; not an error if there is none."""
    # In this order, because a file without a checksum passes for one of mmengine's.
    Path(path).unlink(missing_ok=True)
    _sidecar(Path(path)).unlink(missing_ok=True)


def remove_remains(folder: str | os.PathLike) -> None:
    """Remove the temporary files of a process that was killed while it saved or removed a checkpoint."""
    for file in Path(folder).glob('.*.tmp'):
        if file.name.endswith(('.pth.tmp', '.sha256.tmp', 'last_checkpoint.tmp')):
            file.unlink(missing_ok=True)
    for file in Path(folder).glob('*.pth.sha256'):
        if not file.with_suffix('').exists():
            file.unlink(missing_ok=True)


def verify_checkpoint(path: str | os.PathLike) -> str | None:
    """Say what is wrong with a checkpoint file; None if nothing is.

    A file without ``PATH.sha256``, one of mmengine's, is checked by the CRC that the archive has of each of its parts.

    Args:
        path: The file.
    """
    path = Path(path)
    if not path.is_file():
        return 'there is no such file'
    try:
        if known := _listed(path):
            return None if sha256_of(path) in known else f'its {path.stat().st_size} bytes do not match their checksum'
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        return None if broken is None else f'{broken} in it is damaged'
    except (*DAMAGE, zlib.error, struct.error) as error:
        return str(error) or type(error).__name__


def newest_verified(work_dir: str | os.PathLike) -> tuple[str | None, list[tuple[str, str]]]:
    """Find the newest intact checkpoint of a run.

    The number of the save, in the file beside a checkpoint, decides which one is the newest. Iterations do not: a run
    that resumed from an earlier checkpoint, or with a larger batch, writes newer files of fewer iterations. Times do
    not either: a copy has other times. mmengine's files have no such number and count as older than all others; among
    them the newest is the one that ``last_checkpoint`` names, then the one of the highest iteration or epoch.

    Args:
        work_dir: Folder of the checkpoints; it may have been moved.

    Returns:
        Path of the checkpoint, or None; and for each newer, damaged one its path and the damage.
    """
    damaged: list[tuple[str, str]] = []
    for path in _candidates(Path(work_dir)):
        problem = verify_checkpoint(path)
        if problem is None:
            return str(path), damaged
        damaged.append((str(path), problem))
    return None, damaged


def _candidates(folder: Path) -> list[Path]:
    last = folder / 'last_checkpoint'
    # The name alone: the work dir may have been moved.
    named = Path(last.read_text(errors='replace').strip()).name if last.is_file() else ''
    ranked = []
    for path in folder.glob('*.pth'):
        match, number = _NUMBERED.fullmatch(path.name), _save_number(path)
        # The best ones have no optimizer.
        if match or path.name == named or (number and not path.name.startswith('best_')):
            ranked.append((number, path.name == named, int(match[1]) if match else 0, path))
    return [path for *_, path in sorted(ranked, reverse=True)]


def _save_number(path: Path) -> int:
    """The number of the save that wrote a file; 0 if it is unknown."""
    listed = _listed(path)
    highest = max(listed.values(), default=0)
    # Two checksums: the process was killed while it replaced the file.
    return listed.get(sha256_of(path), highest) if len(listed) > 1 else highest


def plain(value: Any, left_out: list[str] | None = None, name: str = '') -> Any:
    """Copy a checkpoint to the CPU, in a form that later steps do not change and that ``read_checkpoint`` reads.

    Containers become those of Python; NumPy's numbers, paths and mmengine's log history get a plain form. Other objects
    have no plain form and are left out.

    Args:
        value: The checkpoint.
        left_out: Gets the names of the objects that are left out.
        name: Of ``value``, for that list.

    Returns:
        The copy, or :data:`LEFT_OUT` for an object without a plain form.
    """
    if isinstance(value, Tensor):
        # A copy even on the CPU: training continues while the file is written.
        return value.detach().to('cpu', copy=True)
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype in NUMBERS:
        return value.copy()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, HistoryBuffer):
        return {HISTORY: [*(history.copy() for history in value.data), value.max_length]}
    if isinstance(value, Mapping):
        items = {key: plain(item, left_out, f'{name}.{key}') for key, item in value.items()}
        items = {key: item for key, item in items.items() if item is not LEFT_OUT}
        if not isinstance(value, OrderedDict):
            return items
        copied = OrderedDict(items)
        if hasattr(value, '_metadata'):
            # Versions of the modules, of which a state dict consists.
            copied._metadata = plain(value._metadata)  # type: ignore[attr-defined]
        return copied
    if isinstance(value, (list, tuple, set, frozenset)):
        kind = list if isinstance(value, list) else tuple if isinstance(value, tuple) else set
        return kind(_items(value, left_out, name))
    if left_out is not None:
        left_out.append(f'{name.removeprefix(".")} ({type(value).__name__})')
    return LEFT_OUT


def _items(values: Any, left_out: list[str] | None, name: str) -> list[Any]:
    copied = [plain(item, left_out, f'{name}.{index}') for index, item in enumerate(values)]
    return [item for item in copied if item is not LEFT_OUT]


LEFT_OUT = object()


class BackgroundWriter:
    """Runs one task at a time in a thread, so that training continues while a checkpoint is written."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, task: Callable[[], None]) -> None:
        """Start a task, after the one before it has ended; see :meth:`wait` for errors of that one."""
        self.wait()
        # No daemon: the interpreter waits for it, so that the end of a run does not cut a file off.
        self._thread = threading.Thread(target=self._run, args=(task,), name='checkpoint writer')
        self._thread.start()

    def wait(self) -> None:
        """Wait for the task.

        Raises:
            BaseException: What the task has raised, once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # raised by wait(), in the training thread
            self._error = error


def _temporary(path: Path) -> Path:
    return path.with_name(f'.{path.name}.tmp')


def _sidecar(path: Path) -> Path:
    return path.with_name(f'{path.name}.sha256')


def _listed(path: Path) -> dict[str, int]:
    """The checksums beside a file, each with the number of its save (0: unknown); empty if there are none."""
    return _read_checksums(_sidecar(path))


def _read_checksums(sidecar: Path) -> dict[str, int]:
    try:
        text = sidecar.read_text(errors='replace')
    except FileNotFoundError:  # also one that another thread has just removed
        return {}
    return {digest: int(number or 0) for number, digest in _CHECKSUM.findall(text)}


def _checksum_lines(path: Path, checksums: dict[str, int]) -> str:
    return ''.join(f'# save {number}\n{digest}  {path.name}\n' for digest, number in checksums.items())


def sha256_of(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _write_text(path: Path, text: str) -> None:
    temporary = _temporary(path)
    try:
        with open(temporary, 'w', encoding='utf-8') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
