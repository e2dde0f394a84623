"""Pictures of similarity maps: where in an image a word fits, as in MaskCLIP v1, Fig. 2 and 3."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from mmmaskclip.visualization.picture_grid import FONT, PANEL_WIDTH, PictureGrid, line_inches, row_inches

_COLOURS = 'turbo'
_CAPTION_FONT = FONT - 2
# Width of a letter of the names of rows, in inches; wide ones included.
_LETTER_INCHES = 0.072
_WRAP = 28


@dataclass(frozen=True)
class SimilarityRow:
    """One row of the picture: one image under one model.

    Attributes:
        title: Text left of the row's maps, e.g. the model's name; may be empty.
        image: uint8 (H, W, 3).
        maps: float (T, H, W), one similarity map per word. With a caption (T + 1, H, W); the last map is the caption's.
        caption: A sentence about this image. Default: none.
    """

    title: str
    image: np.ndarray
    maps: np.ndarray
    caption: str | None = None


def draw_similarity_maps(
    rows: Sequence[SimilarityRow],
    words: Sequence[str],
    path: str | PathLike,
    scale: str = 'row',
    panel_width: int = PANEL_WIDTH,
) -> None:
    """Write the picture of :func:`lay_out_similarity_maps`; missing folders are created.

    Args:
        rows: The rows.
        words: T words.
        path: File to write. Its ending sets the format.
        scale: See there.
        panel_width: Width of each image, in pixels. Defaults to 247.

    Raises:
        ValueError: See there.
    """
    lay_out_similarity_maps(rows, words, scale).save(path, panel_width)


def lay_out_similarity_maps(rows: Sequence[SimilarityRow], words: Sequence[str], scale: str = 'row') -> PictureGrid:
    """Draw a grid. Rows are models; columns are the image, then a heat map over it for every word and the caption.

    Neighbouring rows with the same image and caption form a block, which shows image and caption once. A colour bar
    shows the scale. No scale spans several rows, because the similarities of different models are not comparable.

    Args:
        rows: The rows; rows of one image must follow each other.
        words: T words, the titles of the columns.
        scale: ``'row'``: all maps of a row share one colour scale, with a bar per row; words can be compared.
            ``'map'``: the scale of every map runs from its lowest to its highest value; each map shows where its word
            fits best, even if the word fits nowhere well. Defaults to ``'row'``.

    Raises:
        ValueError: If there is no row or no map, a row does not have one map in its image's size for each word (and
            the caption), or ``scale`` is unknown.
    """
    if scale not in ('row', 'map'):
        raise ValueError(f"scale={scale!r}: choose 'row' or 'map'")
    if not rows or not len(rows[0].maps):
        raise ValueError('there is nothing to draw: give at least one image and one word')
    for row in rows:
        expected = (len(words) + (row.caption is not None), *row.image.shape[:2])
        if row.maps.shape != expected:
            raise ValueError(f'row {row.title!r} has maps of shape {row.maps.shape}, but needs {expected}')
    starts = [index == 0 or not _same_block(row, rows[index - 1]) for index, row in enumerate(rows)]
    words = [fill(word, _WRAP) for word in words]
    captions = [fill(row.caption or '', _WRAP) if start else '' for row, start in zip(rows, starts, strict=True)]
    headings = [line_inches([caption], _CAPTION_FONT) for caption in captions]
    headings[0] = max(headings[0], line_inches(['image', *words]))
    grid = PictureGrid(
        [row.image.shape[0] / row.image.shape[1] for row in rows],
        1 + max(len(row.maps) for row in rows),
        headings,
        label=line_inches([_name(row) for row in rows]),
        right=0.8,
    )
    for index, row in enumerate(rows):
        if starts[index]:
            grid.image_axes(index, 0, 'image' if index == 0 else '').imshow(row.image)
        titles = [(word if index == 0 else '', FONT) for word in words] + [(captions[index], _CAPTION_FONT)]
        axes = [grid.image_axes(index, 1 + column, *titles[column]) for column in range(len(row.maps))]
        _draw_maps(axes, row, grid.bar_axes(index) if scale == 'row' else None)
    if scale == 'map':
        bar = grid.figure.colorbar(ScalarMappable(cmap=_COLOURS), cax=grid.bar_axes(0))
        bar.set_ticks([0, 1], labels=['lowest\nof a map', 'highest\nof a map'], fontsize=FONT - 2)
        lowest, highest = bar.ax.get_yticklabels()
        lowest.set_verticalalignment('bottom')
        highest.set_verticalalignment('top')
    return grid


def _same_block(row: SimilarityRow, other: SimilarityRow) -> bool:
    return row.caption == other.caption and np.array_equal(row.image, other.image)


def _name(row: SimilarityRow) -> str:
    # Written upwards, beside the row: no line may be longer than the row is high, or it runs into its neighbour.
    height = row_inches(row.image.shape[0] / row.image.shape[1])
    return fill(row.title, max(4, int(height / _LETTER_INCHES)))


def _draw_maps(axes: Sequence[Axes], row: SimilarityRow, bar: Axes | None) -> None:
    """Draw the maps of a row: on one shared scale if the row has a colour bar, else each on its own scale."""
    # The image is lightened: the colours of the heat map stay bright over dark areas.
    grey = 0.65 * row.image.mean(-1) + 0.35 * 255
    shared = Normalize(row.maps.min(), row.maps.max())
    for axis, heat in zip(axes, row.maps, strict=True):
        axis.imshow(grey, cmap='gray', vmin=0, vmax=255)
        axis.imshow(heat, cmap=_COLOURS, norm=shared if bar else Normalize(heat.min(), heat.max()), alpha=0.65)
    axes[0].set_ylabel(_name(row), fontsize=FONT)
    if bar is not None:
        drawn = axes[0].figure.colorbar(ScalarMappable(shared, _COLOURS), cax=bar)
        drawn.set_label('cosine similarity', fontsize=FONT - 2)
        bar.tick_params(labelsize=FONT - 2)
