"""The picture of similarity maps, and the tool that draws it."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmmaskclip.registry import MODELS
from mmmaskclip.visualization import SimilarityRow, draw_similarity_maps

TOOL = Path(__file__).parents[2] / 'tools/visualize_similarity.py'


def row(title='', size=(20, 30), words=2):
    image = np.full((*size, 3), 128, dtype=np.uint8)
    maps = np.zeros((words, *size), dtype=np.float32)
    maps[0, :, : size[1] // 2] = 1
    return SimilarityRow(title, image, maps)


def test_heat_is_drawn_where_the_map_is_high(tmp_path):
    draw_similarity_maps([row()], ['left', 'nothing'], tmp_path / 'new' / 'maps.png')
    picture = np.asarray(Image.open(tmp_path / 'new' / 'maps.png').convert('RGB')).astype(int)
    redness = picture[..., 0] - picture[..., 2]
    # turbo is red where it is high and a dark violet where it is low.
    red, blue = redness > 60, redness < -4
    columns = np.arange(picture.shape[1])
    in_grid = columns < 0.9 * picture.shape[1]  # Without the colour bar.
    assert red[:, in_grid].any()
    assert blue[:, in_grid].any()
    assert columns[in_grid][red[:, in_grid].any(0)].max() < columns[in_grid][blue[:, in_grid].any(0)].max()


def test_size_grows_with_rows_and_words(tmp_path):
    def size(rows, words):
        draw_similarity_maps([row('a row', words=words)] * rows, ['word'] * words, tmp_path / 'maps.png')
        return Image.open(tmp_path / 'maps.png').size

    width, height = size(1, 2)
    assert size(1, 4)[0] > 1.4 * width
    assert size(3, 2)[1] > 2 * height


def test_map_of_another_size_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"row 'x' has maps of shape \(2, 20, 30\), but needs \(3, 20, 30\)"):
        draw_similarity_maps([row('x')], ['a', 'b', 'c'], tmp_path / 'maps.png')
    with pytest.raises(ValueError, match='no row'):
        draw_similarity_maps([], ['a'], tmp_path / 'maps.png')


@pytest.fixture(scope='module')
def model_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('model')
    model = dict(
        type='ImageTextPretrainer',
        data_preprocessor=dict(type='ImageTextPreprocessor', mean=[120.0] * 3, std=[60.0] * 3),
        image_encoder=dict(
            type='CLIPVisionTransformer',
            arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
            img_size=32,
            patch_size=8,
        ),
        image_projection=dict(type='ImageProjectionHead', in_channels=16, embed_dims=8),
        text_encoder=dict(type='CLIPTextTransformer', width=16, num_layers=1, num_heads=2),
        text_projection=dict(type='TextProjectionHead', in_channels=16, embed_dims=8),
        objectives=dict(contrast=dict(type='ImageTextContrast', loss=dict(type='InfoNCELoss'))),
    )
    Config(dict(model=model)).dump(folder / 'tiny.py')
    torch.save({'state_dict': MODELS.build(model).state_dict()}, folder / 'weights.pth')
    for name in ('a', 'b'):
        Image.new('RGB', (40, 24), (200, 10, 10)).save(folder / f'{name}.jpg')
    return folder


def test_tool_draws_every_image_under_every_checkpoint(model_files, tmp_path, monkeypatch):
    drawn = []
    tool = runpy.run_path(str(TOOL))
    monkeypatch.setitem(tool['main'].__globals__, 'draw_similarity_maps', lambda *given: drawn.append(given))
    images = [str(model_files / 'a.jpg'), str(model_files / 'b.jpg')]
    tool['main'](
        [*images, '--words', 'cat', 'dog', '--caption', 'a cat and a dog', '--config', str(model_files / 'tiny.py')]
        + ['--checkpoints', str(model_files / 'weights.pth'), 'none', '--out', str(tmp_path / 'maps.png')]
    )
    rows, columns, out = drawn[0]
    assert columns == ['cat', 'dog', 'a cat and a dog']
    assert [r.title.split()[-1] for r in rows] == ['weights', 'none', 'weights', 'none']
    assert all(r.maps.shape == (3, 24, 40) for r in rows)
    assert not np.allclose(rows[0].maps, rows[1].maps)
    assert out == str(tmp_path / 'maps.png')


def test_tool_writes_a_picture(model_files, tmp_path, capsys):
    tool = runpy.run_path(str(TOOL))
    out = tmp_path / 'maps.png'
    arguments = [str(model_files / 'a.jpg'), '--words', 'cat', '--config', str(model_files / 'tiny.py')]
    tool['main']([*arguments, '--checkpoints', 'none', '--out', str(out)])
    assert Image.open(out).size[0] > 100
    assert f'wrote {out}' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        tool['main']([*arguments, *arguments[-1:], '--checkpoints', 'none', 'none', 'none'])
