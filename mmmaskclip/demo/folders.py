"""Text search of folders of photos. A thread builds the index, the page shows its progress, a cache keeps it."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from mmmaskclip.apis.image_index import ImageIndex
from mmmaskclip.demo.photos import Refused
from mmmaskclip.demo.seen_models import SeenModel

_BATCH = 16


def cache_folder() -> Path:
    """Folder of the indexes: ``$XDG_CACHE_HOME/mmmaskclip/folders``, in ``~/.cache`` unless the variable is set."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'mmmaskclip', 'folders')


@dataclass
class FolderIndex:
    """The index of a folder under one model, while it is made and afterwards.

    Attributes:
        folder: The folder.
        done: Images embedded or known from an earlier index.
        total: Images in the folder; 0 until they are counted.
        index: The index; None until it is finished.
        problem: Reason why there is no index, a sentence.
    """

    folder: str
    done: int = 0
    total: int = 0
    index: ImageIndex | None = None
    problem: str | None = None
    finished: threading.Event = field(default_factory=threading.Event)

    def state(self) -> dict[str, Any]:
        """Plain data for the page."""
        bad = self.index.bad if self.index is not None else {}
        return dict(
            folder=self.folder,
            done=self.done,
            total=self.total,
            finished=self.finished.is_set(),
            problem=self.problem,
            bad=[f'{path}: {reason}' for path, reason in list(bad.items())[:20]],
            num_bad=len(bad),
        )


class FolderSearch:
    """Indexes of folders, by folder and model.

    Args:
        models: The models of the page.
        allowed: Whether folders of this machine may be read. Defaults to True.
        cache: Folder of the indexes. Default: :func:`cache_folder`.
    """

    def __init__(self, models: Sequence[SeenModel], allowed: bool = True, cache: Path | None = None) -> None:
        self.models, self.allowed = models, allowed
        self.cache = cache or cache_folder()
        self._indexes: dict[tuple[str, int], FolderIndex] = {}
        self._lock = threading.Lock()

    def start(self, folder: Any, model: Any = 0) -> FolderIndex:
        """Start to index a folder in a thread. An index in progress is not started again; a finished one is renewed.

        Raises:
            Refused: If there is no such folder or model, or folders may not be read.
        """
        key = self._key(folder, model)
        with self._lock:
            running = self._indexes.get(key)
            if running is None or running.finished.is_set():
                running = self._indexes[key] = FolderIndex(key[0])
                threading.Thread(target=self._make, args=(running, self.models[key[1]]), daemon=True).start()
            return running

    def get(self, folder: Any, model: Any = 0) -> FolderIndex:
        """The index of a folder.

        Raises:
            Refused: If the folder has not been indexed.
        """
        found = self._indexes.get(self._key(folder, model))
        if found is None:
            raise Refused('This folder has no index yet: press "Index this folder" first.')
        return found

    def search(self, folder: Any, model: Any, query: Any, most: int = 24) -> list[dict[str, Any]]:
        """The photos of a folder that fit a text best: ``path``, ``name``, ``place`` in the index and ``score``.

        Raises:
            Refused: If the text is empty, or there is no finished index.
        """
        if not isinstance(query, str) or not query.strip():
            raise Refused('The text to search for is empty: type a word or a sentence.')
        made = self.get(folder, model)
        if made.problem:
            raise Refused(made.problem)
        if made.index is None:
            raise Refused(f'The index is not finished: {made.done} of {made.total} photos.')
        best: Any = self.models[int(model)].inferencer.search(made.index, query.strip(), most)
        places = {path: place for place, path in enumerate(made.index.paths)}
        return [dict(path=path, name=Path(path).name, place=places[path], score=score) for path, score in best]

    def photo_path(self, folder: Any, model: Any, place: Any) -> Path:
        """The file of a photo in an index; no other file can be requested.

        Raises:
            Refused: If the index has no such photo, or its file is gone.
        """
        index = self.get(folder, model).index
        if index is None or not (isinstance(place, int) and 0 <= place < len(index)):
            raise Refused('The index has no such photo: search again.')
        path = Path(index.paths[place])
        if not path.is_file():
            raise Refused(f'{path} is gone: index the folder again.')
        return path

    def _key(self, folder: Any, model: Any) -> tuple[str, int]:
        if not self.allowed:
            raise Refused('Folders of this machine are searched only where the page is served to this machine alone.')
        if not isinstance(folder, str) or not folder.strip():
            raise Refused('There is no folder yet: type the path of one.')
        path = Path(folder.strip()).expanduser()
        if not path.is_dir():
            raise Refused(f'{path} is no folder: type the path of one.')
        if not (isinstance(model, int) and 0 <= model < len(self.models)):
            raise Refused(f'There is no model {model!r}: choose one of {len(self.models)}.')
        return str(path.resolve()), model

    def _make(self, made: FolderIndex, model: SeenModel) -> None:
        def report(done: int, total: int) -> None:
            made.done, made.total = done, total

        try:
            kept = self.cache / f'{hashlib.sha256((made.folder + model.fingerprint()).encode()).hexdigest()[:24]}.npz'
            made.index = model.inferencer.embed_folder(made.folder, _BATCH, known=_load(kept), report=report)
            made.done = made.total = len(made.index) + len(made.index.bad)
            _save(made.index, kept)
        except (OSError, ValueError) as error:
            made.problem = f'The folder cannot be indexed: {error}.'
        except Exception as error:  # nobody waits for this thread, so the page must show the error
            made.problem = f'The index failed: {type(error).__name__}: {error}.'
        finally:
            made.finished.set()


def _load(path: Path) -> ImageIndex | None:
    try:
        return ImageIndex.load(path)
    except (OSError, ValueError, KeyError, BadZipFile):  # no index yet, or a damaged one: build a new one
        return None


def _save(index: ImageIndex, path: Path) -> None:
    # Atomic write: an interrupted write leaves no incomplete file.
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(suffix='.npz', dir=path.parent)
    os.close(descriptor)
    index.save(part)
    os.replace(part, path)
