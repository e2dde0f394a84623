"""A grid of images close to each other, and how it becomes a file."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CELL_INCHES = 1.9
FONT = 9
_GAP_INCHES = 0.05
_BAR_INCHES = 0.08
# Taller images are drawn narrower: one of them would else fill a page.
_MAX_ASPECT = 1.5


def line_inches(texts: Sequence[str], font: int = FONT) -> float:
    """Height that the highest of some titles needs, 0 where all are empty."""
    lines = max((text.count('\n') + 1 for text in texts if text), default=0)
    return (1.25 * font * lines + 8) / 72 if lines else 0.0


class PictureGrid:
    """A figure whose rows are as high as their images are, at one width for all columns.

    Every place is computed, because matplotlib's layouts give all rows the heading that one of them needs.

    Args:
        aspects: Height over width of the images of every row.
        columns: How many images are beside each other.
        headings: Inches that titles need above every row.
        label: Inches left of the second column, for the names of rows. Defaults to 0.
        right: Inches right of the images. Defaults to 0.
        below: Inches below the images. Defaults to 0.
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
        self._heights = [min(aspect, _MAX_ASPECT) * CELL_INCHES for aspect in aspects]
        self.width = self._lefts[-1] + cell + right
        self.height = sum(self._heights) + sum(headings) + (len(headings) + 1) * _GAP_INCHES + below
        self._bottoms: list[float] = []
        top = self.height - _GAP_INCHES
        for height, heading in zip(self._heights, headings, strict=True):
            self._bottoms.append(top - heading - height)
            top = self._bottoms[-1] - _GAP_INCHES
        # Without pyplot: it keeps figures alive and picks a backend that may want a screen.
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

    def save(self, path: str | PathLike) -> None:
        """Writes the figure; the ending of ``path`` sets the format, and its folder is made."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        FigureCanvasAgg(self.figure).print_figure(path, dpi=130)

    def _axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))
