"""The index of a search: embeddings of many images, with their paths."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

# Endings of the formats that we decode, in any case.
IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif')


@dataclass(frozen=True)
class ImageIndex:
    """Embedded images.

    Attributes:
        paths: N paths.
        embeds: float32 (N, D), L2-normalized.
        bad: Reason why an image could not be used, by its path.
        stamps: int64 (N, 2), size in bytes and time of the last change of each file. :meth:`find_known` compares them.
            Defaults to None: no file is known.
    """

    paths: list[str]
    embeds: np.ndarray
    bad: dict[str, str] = field(default_factory=dict)
    stamps: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def save(self, path: str | PathLike) -> None:
        """Write paths, embeddings and stamps as ``.npz``."""
        stamps: Any = {} if self.stamps is None else {'stamps': self.stamps}
        np.savez(path, paths=np.array(self.paths, dtype=np.str_), embeds=self.embeds, **stamps)

    @classmethod
    def load(cls, path: str | PathLike) -> 'ImageIndex':
        """Read a file of :meth:`save`; nothing in it is executed."""
        with np.load(path, allow_pickle=False) as content:
            return cls(content['paths'].tolist(), content['embeds'], stamps=content.get('stamps'))

    def find_known(self, paths: Sequence[str]) -> dict[str, np.ndarray]:
        """Embeddings (D,), by path, of the files that have not changed since they were embedded."""
        if self.stamps is None:
            return {}
        places = {path: place for place, path in enumerate(self.paths)}
        known = [path for path in paths if path in places]
        same = (stamps_of(known) == self.stamps[[places[path] for path in known]]).all(1) if known else ()
        return {path: self.embeds[places[path]] for path, kept in zip(known, same, strict=True) if kept}


def stamps_of(paths: Sequence[str]) -> np.ndarray:
    """Bytes and time of the last change (ns) of files: int64 (N, 2)."""
    facts = [Path(path).stat() for path in paths]
    return np.array([(fact.st_size, fact.st_mtime_ns) for fact in facts], dtype=np.int64).reshape(-1, 2)


def find_images(folder: str | PathLike) -> list[Path]:
    """All images in a folder and the folders below, sorted; hidden ones are left out.

    Raises:
        NotADirectoryError: If there is no such folder.
        FileNotFoundError: If it holds no image.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f'{root} is no folder')
    found = sorted(
        path
        for path in root.rglob('*')
        if path.suffix.lower() in IMAGE_ENDINGS
        and not any(part.startswith('.') for part in path.relative_to(root).parts)
        and path.is_file()
    )
    if not found:
        raise FileNotFoundError(f'{root} holds no image: none of its files ends in {", ".join(IMAGE_ENDINGS)}')
    return found
