"""The content of the page about a photo, as plain data, for the live page and for the downloaded file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmmaskclip.demo.photos import Photo, Refused
from mmmaskclip.demo.pictures import (
    class_map,
    data_url,
    enlarge,
    heat_map,
    levels,
    likeness,
    map_size,
    principal_components,
)
from mmmaskclip.demo.seen_models import SeenModel
from mmmaskclip.demo.settings import Settings
from mmmaskclip.visualization import class_colours

# Up to this many patches, a downloaded page holds the likeness of all pairs: 1,600^2 bytes.
_MOST_PAIRS = 1600


def view_photo(photo: Photo) -> dict[str, Any]:
    """The photo: its address, size and notes."""
    return dict(
        key=photo.key,
        url=data_url(photo.image, 'JPEG'),
        width=photo.image.width,
        height=photo.image.height,
        notes=list(photo.notes),
    )


def view_words(photo: Photo, models: Sequence[SeenModel], words: Sequence[str], settings: Settings) -> list[dict]:
    """Per model the maps of all words on one scale, the segmentation by words, and the components of the patches.

    Two models have two scales, because their similarities are not comparable.

    Returns:
        One dict per model: ``name``, ``grid`` (rows, columns), ``low`` and ``high`` of the scale, ``maps`` (``word``,
        ``url``, ``low``, ``high``, ``peak``: the hottest place, from 0 to 1 across and down), ``segmentation``
        (``url``, ``legend`` of ``word``, ``colour`` and ``share`` of the pixels), ``components`` (``url``,
        ``shares``). Or ``name`` and ``problem``, a sentence, where the model cannot show it.
    """
    return [_or_problem(model, lambda one: _view_model(photo, one, words, settings)) for model in models]


def view_patch(photo: Photo, models: Sequence[SeenModel], settings: Settings, place: tuple[float, float]) -> list[dict]:
    """Per model a map of the likeness with the patch at a place.

    Args:
        photo: The photo.
        models: The models.
        settings: How they look at it.
        place: Across and down, from 0 to 1.

    Returns:
        One dict per model: ``name``, ``url``, ``low``, ``high``, ``cell`` (row, column), ``grid``; or ``problem``.
    """

    def view(model: SeenModel) -> dict:
        features = model.features(photo, settings)
        rows, columns = features.shape[1:]
        row, column = min(int(place[1] * rows), rows - 1), min(int(place[0] * columns), columns - 1)
        values = likeness(features)[row * columns + column].reshape(rows, columns)
        low, high = float(values.min()), float(values.max())
        url = data_url(heat_map(enlarge(values[None], map_size(photo.image))[0], low, high))
        return dict(name=model.name, url=url, low=low, high=high, cell=[row, column], grid=[rows, columns])

    if not all(0 <= part <= 1 for part in place):
        raise Refused('The click lies outside of the photo.')
    return [_or_problem(model, view) for model in models]


def view_pairs(photo: Photo, model: SeenModel, settings: Settings) -> dict[str, Any] | None:
    """The likeness of all pairs of patches as a picture, (N, N); None if the file would be large."""
    features = model.features(photo, settings)
    if features[0].size > _MOST_PAIRS:
        return None
    values = likeness(features)
    low, high = float(values.min()), float(values.max())
    return dict(url=data_url(Image.fromarray(levels(values, low, high))), low=low, high=high)


def segment(maps: np.ndarray, settings: Settings) -> np.ndarray:
    """The word that fits each pixel best, (H, W) of maps (T, H, W); -1 where none reaches the background's level."""
    labels = maps.argmax(0)
    if settings.background is not None:
        level = maps.min() + settings.background * (maps.max() - maps.min())
        labels = np.where(maps.max(0) < level, -1, labels)
    return labels


def _view_model(photo: Photo, model: SeenModel, words: Sequence[str], settings: Settings) -> dict:
    features = model.features(photo, settings)
    size = map_size(photo.image)
    components, shares = principal_components(features)
    colours = (enlarge(components, size).transpose(1, 2, 0) * 255).round().astype(np.uint8)
    view: dict[str, Any] = dict(
        name=model.name,
        grid=list(features.shape[1:]),
        components=dict(url=data_url(Image.fromarray(colours)), shares=[float(share) for share in shares]),
        maps=[],
    )
    if words:
        small = model.maps(photo, words, settings)
        view |= _view_maps(enlarge(small, size), words, settings)
    return view


def _view_maps(maps: np.ndarray, words: Sequence[str], settings: Settings) -> dict[str, Any]:
    low, high = float(maps.min()), float(maps.max())
    drawn = []
    for word, values in zip(words, maps, strict=True):
        row, column = np.unravel_index(values.argmax(), values.shape)
        peak = [(column + 0.5) / values.shape[1], (row + 0.5) / values.shape[0]]
        url = data_url(heat_map(values, low, high))
        drawn.append(dict(word=word, url=url, low=float(values.min()), high=float(values.max()), peak=peak))
    labels, colours = segment(maps, settings), class_colours(len(words))
    legend = [
        dict(word=word, colour='#{:02x}{:02x}{:02x}'.format(*colour), share=float((labels == index).mean()))
        for index, (word, colour) in enumerate(zip(words, colours, strict=True))
    ]
    return dict(
        low=low, high=high, maps=drawn, segmentation=dict(url=data_url(class_map(labels, colours)), legend=legend)
    )


def _or_problem(model: SeenModel, view: Callable[[SeenModel], dict]) -> dict:
    try:
        return view(model)
    except Refused as refused:
        return dict(name=model.name, problem=str(refused))
