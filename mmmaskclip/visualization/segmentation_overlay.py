"""Pictures of segmentations: class colours over the image, and a legend."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from textwrap import fill

import numpy as np
import torch
from matplotlib.patches import Patch
from torchvision.utils import draw_segmentation_masks

from mmmaskclip.visualization.picture_grid import CELL_INCHES, FONT, PANEL_WIDTH, PictureGrid, line_inches

Colour = tuple[int, int, int]
_LEGEND_INCHES = 0.167
_LEGEND_ENTRIES = 24
# S. Trubetskoy, "List of 20 simple, distinct colors" (sashamaps.net, 2017). Grey is left out: it looks uncoloured.
_DISTINCT = (
    *(0xE6194B, 0x3CB44B, 0xFFE119, 0x4363D8, 0xF58231, 0x911EB4, 0x46F0F0, 0xF032E6, 0xBCF60C, 0xFABEBE),
    *(0x008080, 0xE6BEFF, 0x9A6324, 0xFFFAC8, 0x800000, 0xAAFFC3, 0x808000, 0xFFD8B1, 0x000075),
)


@dataclass(frozen=True)
class SegmentationRow:
    """One row of the picture: one image with its segmentations.

    Attributes:
        image: uint8 (H, W, 3).
        labels: Class indices (M, H, W), one map per column. Other values (e.g. 255, "ignore") are not coloured.
    """

    image: np.ndarray
    labels: np.ndarray


def class_colours(count: int) -> list[Colour]:
    """Distinct colours: 19 from a list, then hues a golden ratio apart in three brightnesses.

    Args:
        count: Number of colours.

    Returns:
        RGB, 0 to 255, all different.
    """
    colours = [(value >> 16, value >> 8 & 255, value & 255) for value in _DISTINCT]
    for index in range(count - len(colours)):
        saturation, brightness = ((0.9, 0.95), (0.55, 0.8), (0.75, 0.55))[index % 3]
        red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, saturation, brightness)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours[:count]


def overlay(image: np.ndarray, labels: np.ndarray, colours: Sequence[Colour], alpha: float = 0.6) -> np.ndarray:
    """Lay the colours of classes over an image.

    Args:
        image: uint8 (H, W, 3).
        labels: Class indices (H, W). Pixels with other values keep the image's colour.
        colours: RGB of every class, 0 to 255.
        alpha: Weight of the class colour in the result. Defaults to 0.6.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: If image and labels differ in size.
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(f'labels of size {labels.shape} do not fit an image of size {image.shape[:2]}')
    present = [index for index in np.unique(labels) if 0 <= index < len(colours)]
    if not present:
        return image.copy()
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    masks = torch.from_numpy(np.stack([labels == index for index in present]))
    drawn = draw_segmentation_masks(pixels, masks, alpha=alpha, colors=[tuple(colours[index]) for index in present])
    return drawn.permute(1, 2, 0).numpy()


def draw_segmentations(
    rows: Sequence[SegmentationRow],
    titles: Sequence[str],
    classes: Sequence[str],
    path: str | PathLike,
    colours: Sequence[Colour] | None = None,
    panel_width: int = PANEL_WIDTH,
) -> None:
    """Draw a grid with one row per image: the image, then an overlay for every model. A legend stands below.

    mmseg's ``SegLocalVisualizer`` does not fit: it draws one prediction per file and writes names into the image.

    Args:
        rows: The rows.
        titles: M titles of columns, e.g. the models' names.
        classes: C names. The legend shows the classes in the picture, at most the 24 with the most pixels.
        path: File to write. Its ending sets the format; missing folders are created.
        colours: RGB of every class, 0 to 255. Default: :func:`class_colours`.
        panel_width: Width of each image, in pixels. Defaults to 247.

    Raises:
        ValueError: If there is no row, a row does not have one map in its image's size for each title, or the number
            of colours is not that of the classes.
    """
    if not rows:
        raise ValueError('there is no row to draw: give at least one image')
    for index, row in enumerate(rows):
        expected = (len(titles), *row.image.shape[:2])
        if row.labels.shape != expected:
            raise ValueError(f'row {index} has labels of shape {row.labels.shape}, but needs {expected}')
    colours = class_colours(len(classes)) if colours is None else colours
    if len(colours) != len(classes):
        raise ValueError(f'{len(colours)} colours for {len(classes)} classes: give one for each')
    titles = ['image', *(fill(title, 28) for title in titles)]
    entries, columns = _legend(rows, classes, colours, len(titles) * CELL_INCHES)
    grid = PictureGrid(
        [row.image.shape[0] / row.image.shape[1] for row in rows],
        len(titles),
        [line_inches(titles)] + [0.0] * (len(rows) - 1),
        below=_LEGEND_INCHES * -(-len(entries) // columns) + 0.1,
    )
    for index, row in enumerate(rows):
        pictures = [row.image, *(overlay(row.image, labels, colours) for labels in row.labels)]
        for column, (title, picture) in enumerate(zip(titles, pictures, strict=True)):
            grid.image_axes(index, column, title if index == 0 else '').imshow(picture)
    if entries:
        grid.figure.legend(
            handles=entries, loc='lower center', ncols=columns, fontsize=FONT - 1, frameon=False, borderaxespad=0
        )
    grid.save(path, panel_width)


def _legend(
    rows: Sequence[SegmentationRow], classes: Sequence[str], colours: Sequence[Colour], width: float
) -> tuple[list[Patch], int]:
    """The entries of the legend, and the number of columns that fit into ``width`` inches."""
    values, counts = np.unique(np.concatenate([row.labels.ravel() for row in rows]), return_counts=True)
    pixels = {int(value): count for value, count in zip(values, counts, strict=True) if 0 <= value < len(classes)}
    # A legend of 150 classes would be larger than the picture.
    largest = sorted(sorted(pixels, key=lambda index: -pixels[index])[:_LEGEND_ENTRIES])
    longest = max((len(classes[index]) for index in largest), default=1)
    entries = [Patch(color='#{:02x}{:02x}{:02x}'.format(*colours[index]), label=classes[index]) for index in largest]
    if len(largest) < len(pixels):
        entries.append(Patch(color='none', label=f'and {len(pixels) - len(largest)} more'))
    return entries, max(1, min(len(entries), int(width / (0.55 + 0.07 * longest))))
