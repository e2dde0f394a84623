"""Files that the page offers: a picture of all maps, the similarities, and a page that works without a server."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmmaskclip.demo.photos import Photo, Refused
from mmmaskclip.demo.pictures import TURBO, enlarge
from mmmaskclip.demo.seen_models import SeenModel
from mmmaskclip.demo.settings import Settings
from mmmaskclip.demo.views import view_pairs, view_photo, view_words
from mmmaskclip.visualization import SimilarityRow, draw_similarity_maps

_PAGE = Path(__file__).parent / 'page'
KINDS = {'png': 'image/png', 'npz': 'application/octet-stream', 'html': 'text/html; charset=utf-8'}


def make_page(data: dict | None = None) -> str:
    """The page as one text: styles and scripts inside, nothing from elsewhere.

    Args:
        data: Content of a page without a server. None: the live page, which asks its server.
    """
    parts = {
        '/*STYLE*/': (_PAGE / 'page.css').read_text(encoding='utf-8'),
        '/*VIEWER*/': (_PAGE / 'viewer.js').read_text(encoding='utf-8'),
        '/*LIVE*/': (_PAGE / 'live.js').read_text(encoding='utf-8') if data is None else '',
        '"COLOURS"': json.dumps(TURBO.tolist(), separators=(',', ':')),
        # In a script, "</script>" of a word would end it.
        '"DATA"': json.dumps(data, separators=(',', ':')).replace('<', '\\u003c'),
    }
    page = (_PAGE / 'page.html').read_text(encoding='utf-8')
    for mark, text in parts.items():
        page = page.replace(mark, text)
    return page


def make_download(
    kind: str, photo: Photo, models: Sequence[SeenModel], words: Sequence[str], settings: Settings
) -> bytes:
    """The content of a file.

    Args:
        kind: ``'png'``: all maps, a row per model. ``'npz'``: their similarities, see :func:`similarities`. ``'html'``:
            the view in one file that works without a network.
        photo: The photo.
        models: The models.
        words: T words.
        settings: How the models look at the photo.

    Raises:
        Refused: If the kind is unknown, there is no word, or a model cannot show the photo this way.
    """
    if kind not in KINDS:
        raise Refused(f'There is no download {kind!r}: choose {", ".join(KINDS)}.')
    if not words:
        raise Refused('There is no word yet: type one, then there is something to download.')
    if kind == 'html':
        return static_page(photo, models, words, settings).encode()
    file = io.BytesIO()
    if kind == 'npz':
        arrays: Any = similarities(photo, models, words, settings)
        np.savez(file, **arrays)
        return file.getvalue()
    size = photo.image.height, photo.image.width
    rows = [
        SimilarityRow(model.name, np.asarray(photo.image), enlarge(model.maps(photo, words, settings), size))
        for model in models
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'maps.png')
        draw_similarity_maps(rows, words, path)
        return path.read_bytes()


def similarities(
    photo: Photo, models: Sequence[SeenModel], words: Sequence[str], settings: Settings
) -> dict[str, np.ndarray]:
    """The arrays of the ``.npz``: ``words`` (T,), ``models`` (M,), for each model ``maps_0``, ... float32 (T, h, w),
    cosine similarities of patches, and ``image_size``, height and width of the photo."""
    arrays = {f'maps_{index}': model.maps(photo, words, settings) for index, model in enumerate(models)}
    return dict(
        words=np.array(words, dtype=np.str_),
        models=np.array([model.name for model in models], dtype=np.str_),
        image_size=np.array([photo.image.height, photo.image.width]),
        **arrays,
    )


def static_page(photo: Photo, models: Sequence[SeenModel], words: Sequence[str], settings: Settings) -> str:
    """The view of a photo as one HTML file that needs no server and no network."""
    view = view_words(photo, models, words, settings)
    for model, shown in zip(models, view, strict=True):
        if 'problem' not in shown:
            shown['pairs'] = view_pairs(photo, model, settings)
    return make_page(dict(photo=view_photo(photo), words=list(words), settings=vars(settings), models=view))
