"""Pictures of where words are in images, in the manner of the papers' figures (MaskCLIP v1, Fig. 2 and 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_CELL_INCHES = 1.9


@dataclass(frozen=True)
class SimilarityRow:
    """One row of the picture: one image under one model.

    Attributes:
        title: What stands left of the row, e.g. the model's name; may be empty.
        image: uint8 (H, W, 3).
        maps: float (T, H, W), one similarity map per word.
    """

    title: str
    image: np.ndarray
    maps: np.ndarray


def draw_similarity_maps(rows: Sequence[SimilarityRow], words: Sequence[str], path: str | PathLike) -> None:
    """Draws a grid: one row per image or model, the image itself, then a heat map over it for every word.

    The heat maps of a row share one colour scale, so that words can be compared; the bar at the right gives it. Rows
    have scales of their own, because the similarities of different models are not comparable.

    Args:
        rows: The rows.
        words: T words or captions, the columns' titles.
        path: File to write; its ending sets the format. Its folder is made.

    Raises:
        ValueError: If there is no row, or a row has not one map of its image's size for each word.
    """
    if not rows:
        raise ValueError('there is no row to draw: give at least one image')
    for row in rows:
        expected = (len(words), *row.image.shape[:2])
        if row.maps.shape != expected:
            raise ValueError(f'row {row.title!r} has maps of shape {row.maps.shape}, but needs {expected}')
    # Without pyplot: it keeps figures alive and picks a backend that may want a screen.
    figure = Figure(
        figsize=((len(words) + 1.4) * _CELL_INCHES, (len(rows) + 0.25) * _CELL_INCHES), layout='constrained'
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(words) + 1, squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        _draw_row(figure, row, line)
    for axis, title in zip(axes[0], ['image', *words], strict=True):
        axis.set_title(fill(title, 22), fontsize=9)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    canvas.print_figure(path, dpi=130)


def _draw_row(figure: Figure, row: SimilarityRow, axes: Sequence) -> None:
    low, high = float(row.maps.min()), float(row.maps.max())
    grey = row.image.mean(-1)
    axes[0].imshow(row.image)
    axes[0].set_ylabel(fill(row.title, 24), fontsize=9)
    for axis, heat in zip(axes[1:], row.maps, strict=True):
        axis.imshow(grey, cmap='gray', vmin=0, vmax=255)
        drawn = axis.imshow(heat, cmap='turbo', vmin=low, vmax=high, alpha=0.65)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    if len(row.maps):
        bar = figure.colorbar(drawn, ax=list(axes), fraction=0.02, pad=0.01)
        bar.ax.tick_params(labelsize=7)
