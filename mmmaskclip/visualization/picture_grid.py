"""A tight grid of images, saved as one file."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CELL_INCHES = 1.9
# Width of a cell's image in the saved picture, in pixels; 130 per inch.
PANEL_WIDTH = 247
FONT = 9
_GAP_INCHES = 0.05
_BAR_INCHES = 0.08
# Taller images are drawn narrower; otherwise one of them would fill a page.
_MAX_ASPECT = 1.5


def line_inches(texts: Sequence[str], font: int = FONT) -> float:
    """Height in inches of the tallest of some titles; 0 if all are empty."""
    lines = max((text.count('\n') + 1 for text in texts if text), default=0)
    return (1.25 * font * lines + 8) / 72 if lines else 0.0


def row_inches(aspect: float) -> float:
    """Height in inches of a row of images of an aspect, height over width."""
    return min(aspect, _MAX_ASPECT) * CELL_INCHES


class PictureGrid:
    """A figure with columns of one width; every row is as high as its images.

    The class computes all positions itself: matplotlib's layouts give every row the heading space of the tallest.

    Args:
        aspects: Height over width of the images, one value per row.
        columns: Number of images in a row.
        headings: Space for titles above each row, in inches.
        label: Space left of the second column for the names of rows, in inches. Defaults to 0.
        right: Space right of the images, in inches. Defaults to 0.
        below: Space below the images, in inches. Defaults to 0.
    """

    def __init__(
        self,
        aspects: Sequence[float],
        columns: int,
        headings: Sequence[float],
        label: float = 0.0,
        right: float = 0.0,
        below: float = 0.0,
    ) -> None:
        cell = CELL_INCHES + _GAP_INCHES
        self._lefts = [_GAP_INCHES + index * cell + (label if index else 0) for index in range(columns)]
        self._heights = [row_inches(aspect) for aspect in aspects]
        self.width = self._lefts[-1] + cell + right
        self.height = sum(self._heights) + sum(headings) + (len(headings) + 1) * _GAP_INCHES + below
        self._bottoms: list[float] = []
        top = self.height - _GAP_INCHES
        for height, heading in zip(self._heights, headings, strict=True):
            self._bottoms.append(top - heading - height)
            top = self._bottoms[-1] - _GAP_INCHES
        # pyplot would keep figures alive and might pick a backend that needs a screen.
        self.figure = Figure(figsize=(self.width, self.height))

    def image_axes(self, row: int, column: int, title: str = '', font: int = FONT) -> Axes:
        """The axes of one cell, without ticks and frame."""
        axes = self._axes(self._lefts[column], self._bottoms[row], CELL_INCHES, self._heights[row])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_frame_on(False)
        axes.set_title(title, fontsize=font, pad=4)
        return axes

    def bar_axes(self, row: int) -> Axes:
        """Narrow axes right of a row, for a colour bar."""
        left = self._lefts[-1] + CELL_INCHES + 2 * _GAP_INCHES
        return self._axes(left, self._bottoms[row], _BAR_INCHES, self._heights[row])

    def save(self, path: str | PathLike, panel_width: int = PANEL_WIDTH) -> None:
        """Write the figure, with images ``panel_width`` pixels wide. The ending of ``path`` sets the format."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        FigureCanvasAgg(self.figure).print_figure(path, dpi=panel_width / CELL_INCHES)

    def pixels(self, dpi: int) -> np.ndarray:
        """The figure as uint8 (H, W, 3)."""
        self.figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def _axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))
