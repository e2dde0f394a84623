"""The picture of similarity maps, read back from its file."""

import numpy as np
import pytest
from PIL import Image

from mmmaskclip.visualization import SimilarityRow, draw_similarity_maps
from mmmaskclip.visualization.picture_grid import PictureGrid
from mmmaskclip.visualization.similarity_maps import lay_out_similarity_maps


def row(title='', size=(20, 30), words=2, grey=128, **kwargs):
    image = np.full((*size, 3), grey, dtype=np.uint8)
    maps = np.zeros((words, *size), dtype=np.float32)
    maps[0, :, : size[1] // 2] = 1
    return SimilarityRow(title, image, maps, **kwargs)


def read(path):
    return np.asarray(Image.open(path).convert('RGB')).astype(int)


def count_red(path):
    """How many pixels have the colour that turbo has where it is highest."""
    picture = read(path)
    return ((picture[..., 0] - picture[..., 2] > 40) & (picture[..., 1] < 110)).sum()


def test_heat_is_drawn_where_the_map_is_high(tmp_path):
    draw_similarity_maps([row()], ['left', 'nothing'], tmp_path / 'new' / 'maps.png')
    picture = read(tmp_path / 'new' / 'maps.png')
    redness = picture[..., 0] - picture[..., 2]
    # turbo is red where it is high and a dark violet where it is low.
    red, blue = redness > 60, redness < -4
    columns = np.arange(picture.shape[1])
    in_grid = columns < 0.85 * picture.shape[1]  # Without the colour bar.
    assert red[:, in_grid].any()
    assert blue[:, in_grid].any()
    assert columns[in_grid][red[:, in_grid].any(0)].max() < columns[in_grid][blue[:, in_grid].any(0)].max()


@pytest.mark.parametrize('size', [(12, 30), (20, 30), (60, 30)])
def test_the_name_of_a_row_is_no_longer_than_the_row_is_high(size):
    rows = [row(f'maskclip/vitt16_flickr8k_v1 epoch_{index}', size) for index in (10, 20)]
    grid = lay_out_similarity_maps(rows, ['left', 'nothing'])
    grid.pixels(100)
    renderer = grid.figure.canvas.get_renderer()
    named = [axes for axes in grid.figure.axes if 'maskclip' in axes.get_ylabel().replace('\n', '')]
    assert len(named) == 2
    for axes in named:
        text = axes.yaxis.label.get_window_extent(renderer)
        assert text.height <= axes.get_window_extent().height
        assert text.x0 >= 0


def test_size_grows_with_rows_and_words(tmp_path):
    def size(rows, words):
        draw_similarity_maps([row('a row', words=words)] * rows, ['word'] * words, tmp_path / 'maps.png')
        return Image.open(tmp_path / 'maps.png').size

    width, height = size(1, 2)
    assert size(1, 4)[0] > 1.4 * width
    assert size(3, 2)[1] > 2 * height


def test_each_map_can_have_a_scale_of_its_own(tmp_path):
    weak = row()
    weak.maps[1, :, :15] = 0.1
    draw_similarity_maps([weak], ['strong', 'weak'], tmp_path / 'row.png')
    draw_similarity_maps([weak], ['strong', 'weak'], tmp_path / 'map.png', scale='map')
    assert count_red(tmp_path / 'map.png') > 1.7 * count_red(tmp_path / 'row.png')
    with pytest.raises(ValueError, match="scale='all': choose 'row' or 'map'"):
        draw_similarity_maps([weak], ['strong', 'weak'], tmp_path / 'maps.png', scale='all')


def test_map_without_differences_is_drawn(tmp_path):
    flat = SimilarityRow('', np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8), np.float32))
    for scale in ('row', 'map'):
        draw_similarity_maps([flat], ['word'], tmp_path / f'{scale}.png', scale=scale)
        assert (tmp_path / f'{scale}.png').is_file()


def test_image_and_caption_stand_once_for_all_models(tmp_path, monkeypatch):
    drawn = []
    image_axes = PictureGrid.image_axes
    monkeypatch.setattr(PictureGrid, 'image_axes', lambda *given: (drawn.append(given[1:]), image_axes(*given))[1])
    first = {'grey': 10, 'words': 2, 'caption': 'a sentence that is rather too long for one line of a title'}
    second = {'grey': 90, 'words': 2, 'caption': 'another', 'size': (30, 20)}
    third = second | {'caption': 'the same image'}
    rows = [row(name, **block) for block in (first, second, third) for name in 'AB']
    draw_similarity_maps(rows, ['word'], tmp_path / 'maps.png')
    titles = {(cell[0], cell[1]): cell[2] for cell in drawn}
    assert {index for index, column in titles if column == 0} == {0, 2, 4}
    assert [titles[index, 1] for index in range(6)] == ['word', '', '', '', '', '']
    assert [titles[index, 2] for index in range(6)] == [
        'a sentence that is rather\ntoo long for one line of a\ntitle',
        '',
        'another',
        '',
        'the same image',
        '',
    ]


def test_map_of_another_size_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"row 'x' has maps of shape \(2, 20, 30\), but needs \(3, 20, 30\)"):
        draw_similarity_maps([row('x')], ['a', 'b', 'c'], tmp_path / 'maps.png')
    with pytest.raises(ValueError, match=r'needs \(3, 20, 30\)'):
        draw_similarity_maps([row('x', caption='a b')], ['a', 'b'], tmp_path / 'maps.png')
    for rows in ([], [row(words=1)]):
        with pytest.raises(ValueError, match='nothing to draw|needs'):
            draw_similarity_maps(rows, [], tmp_path / 'maps.png')
