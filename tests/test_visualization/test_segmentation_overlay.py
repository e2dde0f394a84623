"""Segmentation overlays: their colours are the classes', in the array and in the picture."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mmmaskclip.visualization import SegmentationRow, class_colours, draw_segmentations, overlay

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]


def test_overlay_mixes_the_image_with_its_classes_colours():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (7, 11, 3), dtype=np.uint8)
    labels = random.integers(0, 3, (7, 11))
    labels[0, :3] = 255
    labels[1, :3] = -1
    before = image.copy()
    found = overlay(image, labels, COLOURS, alpha=0.25).astype(float)
    for place in np.ndindex(7, 11):
        pixel = image[place].astype(float)
        known = 0 <= labels[place] < 3
        expected = 0.75 * pixel + 0.25 * np.array(COLOURS[labels[place]]) if known else pixel
        assert np.abs(found[place] - expected).max() <= 1
    assert (image == before).all()
    assert (overlay(image, np.full((7, 11), 255), COLOURS) == image).all()
    with pytest.raises(ValueError, match=r'size \(7, 10\) do not fit an image of size \(7, 11\)'):
        overlay(image, labels[:, 1:], COLOURS)


def test_class_colours_are_distinct():
    assert len(set(class_colours(200))) == 200
    assert class_colours(200)[:5] == class_colours(5)
    few = np.array(class_colours(19))
    distances = np.abs(few[:, None] - few[None]).sum(-1) + 1000 * np.eye(19)
    assert distances.min() > 40


def test_picture_holds_the_overlays_and_a_legend_of_what_is_there(tmp_path):
    image = np.zeros((20, 30, 3), np.uint8)
    left, top = np.zeros((2, 20, 30), int)
    left[:, 15:], top[10:] = 1, 255
    path = tmp_path / 'new' / 'classes.png'
    draw_segmentations([SegmentationRow(image, np.stack([left, top]))], ['A', 'B'], ['x', 'y', 'z'], path, COLOURS)
    picture = np.asarray(Image.open(path).convert('RGB')).astype(int)

    def area(colour):
        return (np.abs(picture - colour).max(-1) <= 2).sum()

    # Of x the left half of one overlay and the top of the other; of y the right half of the first.
    assert area((150, 0, 0)) == pytest.approx(2 * area((0, 150, 0)), rel=0.03)
    # The legend has the colours themselves.
    assert area(COLOURS[0]) == pytest.approx(area(COLOURS[1]), rel=0.1)
    assert area(COLOURS[0]) > 50
    assert area(COLOURS[2]) == 0


def test_legend_names_the_largest_of_many_classes(tmp_path, monkeypatch):
    legends = []
    legend = Figure.legend
    monkeypatch.setattr(Figure, 'legend', lambda *given, **kwargs: (legends.append(kwargs), legend(*given, **kwargs)))
    labels = np.arange(60).repeat(np.arange(60) + 1)[None, None]
    row = SegmentationRow(np.zeros((1, labels.shape[-1], 3), np.uint8), labels)
    draw_segmentations([row], ['A'], [f'class {index}' for index in range(80)], tmp_path / 'classes.png')
    names = [entry.get_label() for entry in legends[0]['handles']]
    assert names == [*(f'class {index}' for index in range(36, 60)), 'and 36 more']


def test_labels_that_do_not_fit_are_an_error(tmp_path):
    row = SegmentationRow(np.zeros((4, 5, 3), np.uint8), np.zeros((1, 4, 5), int))
    with pytest.raises(ValueError, match=r'row 0 has labels of shape \(1, 4, 5\), but needs \(2, 4, 5\)'):
        draw_segmentations([row], ['A', 'B'], ['x'], tmp_path / 'classes.png')
    with pytest.raises(ValueError, match='3 colours for 1 classes'):
        draw_segmentations([row], ['A'], ['x'], tmp_path / 'classes.png', COLOURS)
    with pytest.raises(ValueError, match='no row'):
        draw_segmentations([], ['A'], ['x'], tmp_path / 'classes.png')
