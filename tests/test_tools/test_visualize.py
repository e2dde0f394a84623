"""The two tools that draw pictures, as a user runs them and from inside."""

import runpy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from paths import TOOLS
from PIL import Image

from mmmaskclip.apis import ImageTextInferencer
from mmmaskclip.datasets.prompts import load_prompts
from mmmaskclip.registry import MODELS


@pytest.fixture(scope='module')
def files(tmp_path_factory, tiny_model_cfg):
    """A folder with the config and weights of a tiny model, two images of different sizes, and a mask."""
    folder = tmp_path_factory.mktemp('files')
    model = tiny_model_cfg()
    model['text_encoder']['vocab_size'] = 49408
    Config(dict(model=model)).dump(folder / 'tiny.py')
    torch.manual_seed(0)
    torch.save({'state_dict': MODELS.build(model).state_dict()}, folder / 'weights.pth')
    random = np.random.default_rng(0)
    for name, size in (('a', (24, 43)), ('b', (57, 30))):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f'{name}.png')
        Image.fromarray(np.full(size, 255, np.uint8)).save(folder / f'mask_{name}.png')
    return folder


@pytest.fixture
def draw(files, monkeypatch):
    """A function that runs a tool on both images inside this process and gives what it would draw."""

    def run(name, *arguments, images=(files / 'a.png', files / 'b.png')):
        drawn = []
        tool = runpy.run_path(str(TOOLS / f'visualize_{name}.py'))
        function = {'similarity': 'draw_similarity_maps', 'segmentation': 'draw_segmentations'}[name]
        monkeypatch.setitem(tool['main'].__globals__, function, lambda *given: drawn.append(given))
        tool['main']([*map(str, images), '--config', str(files / 'tiny.py'), *map(str, arguments)])
        return drawn[0]

    return run


@pytest.fixture
def model(files):
    return ImageTextInferencer(files / 'tiny.py', files / 'weights.pth')


def test_similarity_tool_draws_every_image_under_every_checkpoint(files, draw, model):
    rows, words, out, scale, _ = draw(
        'similarity',
        *('--words', 'cat', 'dog', '--captions', 'a cat', 'a dog', '--checkpoints', files / 'weights.pth', 'none'),
        *('--size', 40, '--mode', 'sliding', '--read-out', 'value', '--scale', 'map', '--out', 'maps.png'),
    )
    assert (words, out, scale) == (['cat', 'dog'], 'maps.png', 'map')
    assert [row.title.split()[-1] for row in rows] == ['weights', 'none', 'weights', 'none']
    assert [row.caption for row in rows] == ['a cat', 'a cat', 'a dog', 'a dog']
    assert [row.maps.shape for row in rows] == [(3, 24, 43)] * 2 + [(3, 57, 30)] * 2
    assert (rows[2].image == np.asarray(Image.open(files / 'b.png'))).all()
    expected = model.similarity_maps(files / 'b.png', ['cat', 'dog', 'a dog'], 40, 'sliding', 'value')
    np.testing.assert_allclose(rows[2].maps, expected.cpu().numpy(), atol=1e-6)
    assert not np.allclose(rows[2].maps, rows[3].maps)


def test_similarity_tool_can_show_what_the_global_embedding_sees(files, draw):
    rows = draw('similarity', '--words', 'cat', '--captions', 'pets', '--crop', '--checkpoints', 'none')[0]
    assert [row.caption for row in rows] == ['pets', 'pets']
    assert (rows[1].image == np.asarray(Image.open(files / 'b.png'))[14:44]).all()
    assert [row.title for row in rows] == ['', '']


def test_segmentation_tool_draws_labels_of_every_model_beside_the_truth(files, draw, model):
    rows, titles, classes, out, colours, _ = draw(
        'segmentation',
        *('--classes', 'cat,kitten', 'dog', 'sky', '--checkpoints', files / 'weights.pth', 'none'),
        *('--masks', files / 'mask_a.png', files / 'mask_b.png', '--names', 'A', 'B', '--out', 'classes.png'),
    )
    assert (titles, classes, out, colours) == (['truth', 'A', 'B'], ['cat', 'dog', 'sky'], 'classes.png', None)
    assert [row.labels.shape for row in rows] == [(3, 24, 43), (3, 57, 30)]
    assert (rows[0].labels[0] == 255).all()
    expected = model.segment(files / 'a.png', [['cat', 'kitten'], 'dog', 'sky'], load_prompts('imagenet_7').templates)
    assert (rows[0].labels[1] == expected.cpu().numpy()).all()


def test_mask_that_belongs_to_another_image_is_named(files, draw, capsys):
    masks = ('--masks', files / 'mask_b.png', files / 'mask_a.png')
    with pytest.raises(SystemExit):
        draw('segmentation', '--classes', 'cat', 'dog', '--checkpoints', 'none', *masks)
    assert 'mask_b.png: L of size (30, 57) is no label map of an image of size (43, 24)' in capsys.readouterr().err


def test_prompt_file_without_templates_takes_imagenets(draw, monkeypatch):
    given = []
    monkeypatch.setattr(ImageTextInferencer, 'segment', lambda self, *rest: (given.append(rest), torch.zeros(1))[1])
    classes = draw('segmentation', '--classes', 'voc20', '--checkpoints', 'none')[2]
    assert (len(classes), classes[0]) == (20, 'airplane')
    assert given[0][2] == load_prompts('imagenet_7').templates
    draw('segmentation', '--classes', 'scenes', '--checkpoints', 'none')
    assert given[-1][2] == load_prompts('scenes').templates


def test_segmentation_tool_takes_classes_of_a_prompt_file_or_of_mmseg(draw):
    assert draw('segmentation', '--classes', 'scenes', '--checkpoints', 'none')[2][0] == 'red circle'
    _, _, classes, _, colours, _ = draw('segmentation', '--classes', 'mmseg:ADE', '--crop', '--checkpoints', 'none')
    assert (len(classes), classes[0], colours[0]) == (150, 'wall', (120, 120, 120))


@pytest.mark.parametrize(
    ('name', 'arguments', 'message'),
    [
        ('similarity', ['--words', 'x', '--checkpoints', *['none'] * 2, '--names', 'A'], '1 names for 2 checkpoints'),
        ('similarity', ['--words', 'x', '--checkpoints', 'none', '--captions', *'abc'], '3 captions for 2 images'),
        ('similarity', ['--words', 'x', '--checkpoints', 'none', '--config', *'abc'], '3 configs for 1 checkpoints'),
        ('segmentation', ['--classes', 'x', '--checkpoints', 'none', '--masks', 'a.png'], '1 masks for 2 images'),
        (
            'segmentation',
            ['--classes', 'dog', '--checkpoints', 'none'],
            'one class is not enough; give two or more names',
        ),
        ('segmentation', ['--classes', 'a.json', '--checkpoints', 'none'], 'no prompt file a.json'),
        ('segmentation', ['--classes', 'cat', '', '--checkpoints', 'none'], '--classes: a text is empty'),
        ('similarity', ['--words', 'x', '--checkpoints', 'none', '--captions', ''], '--captions: a text is empty'),
        ('similarity', ['--words', 'x', ' ', '--checkpoints', 'none'], '--words: a text is empty'),
        ('similarity', ['--words', 'x', '--checkpoints', 'none', '--size', '0'], '--size 0: give the shorter side'),
        ('segmentation', ['--classes', *'xy', '--checkpoints', 'none', '--size', '-5'], '--size -5: give the shorter'),
        (
            'similarity',
            ['--words', 'x', '--checkpoints', 'none', '--panel-width', '2'],
            '--panel-width 2: give at least',
        ),
        ('similarity', ['--words', 'x', '--checkpoints', 'none', '--out', 'a.xyz'], '--out a.xyz: its ending names no'),
        ('segmentation', ['--classes', *'xy', '--checkpoints', 'none', '--out', 'a'], '--out a: its ending names no'),
        ('similarity', ['--words', 'x', '--checkpoints', 'none', 'gone.pth'], 'there is no file gone.pth'),
    ],
)
def test_what_does_not_fit_is_an_error_before_models_run(draw, capsys, monkeypatch, name, arguments, message):
    monkeypatch.setattr(ImageTextInferencer, '__init__', None)
    with pytest.raises(SystemExit):
        draw(name, *arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('kind', ['image', 'mask'])
@pytest.mark.parametrize(('file', 'message'), [('gone', 'there is no '), ('broken', 'broken.png')])
def test_files_that_cannot_be_read_are_named(files, draw, capsys, tmp_path, kind, file, message):
    path = tmp_path / f'{file}.png'
    if file == 'broken':
        path.write_bytes((files / f'{"mask_" if kind == "mask" else ""}a.png').read_bytes()[:60])
    images = [path if kind == 'image' else files / 'a.png', files / 'b.png']
    masks = [path if kind == 'mask' else files / 'mask_a.png', files / 'mask_b.png']
    with pytest.raises(SystemExit):
        draw('segmentation', '--classes', *'xy', '--checkpoints', 'none', '--masks', *masks, images=images)
    assert message in capsys.readouterr().err


def test_deep_image_is_refused_not_drawn_white(draw, capsys, tmp_path):
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / 'deep.png')
    with pytest.raises(SystemExit):
        draw('similarity', '--words', 'x', '--checkpoints', 'none', images=[tmp_path / 'deep.png'])
    assert 'deep.png: unsupported_mode' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('name', 'what'), [('similarity', ['--words', 'cat', 'dog']), ('segmentation', ['--classes', 'cat', 'dog'])]
)
def test_tool_writes_a_picture(files, tmp_path, capsys, name, what):
    out = tmp_path / 'new' / 'picture.png'
    images, checkpoints = [files / 'a.png', files / 'b.png'], [files / 'weights.pth', 'none']
    arguments = [*images, *what, '--out', out, '--config', files / 'tiny.py', '--checkpoints', *checkpoints]
    runpy.run_path(str(TOOLS / f'visualize_{name}.py'))['main']([str(argument) for argument in arguments])
    assert f'wrote {out}' in capsys.readouterr().out
    width = Image.open(out).size[0]
    assert width > 400
    arguments += ['--panel-width', 494]  # twice as wide
    runpy.run_path(str(TOOLS / f'visualize_{name}.py'))['main']([str(argument) for argument in arguments])
    assert Image.open(out).size[0] == pytest.approx(2 * width, abs=2)
