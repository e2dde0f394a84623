"""Embeddings of many images, with their paths: what a search looks through."""

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np

# Of the formats that are decoded; case does not matter.
IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif')


@dataclass(frozen=True)
class ImageIndex:
    """Embedded images.

    Attributes:
        paths: N paths.
        embeds: float32 (N, D), L2-normalized.
        bad: Why an image could not be used, by its path.
    """

    paths: list[str]
    embeds: np.ndarray
    bad: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def save(self, path: str | PathLike) -> None:
        """Writes paths and embeddings as ``.npz``."""
        np.savez(path, paths=np.array(self.paths, dtype=np.str_), embeds=self.embeds)

    @classmethod
    def load(cls, path: str | PathLike) -> 'ImageIndex':
        """Reads what :meth:`save` wrote; nothing in the file is executed."""
        with np.load(path, allow_pickle=False) as content:
            return cls(content['paths'].tolist(), content['embeds'])


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
