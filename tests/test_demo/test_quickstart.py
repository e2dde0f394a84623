"""The quickstart's whole flow at its smallest, and its judgement of the targets."""

import json
import runpy
from pathlib import Path

import pytest
import torch
from paths import ROOT
from PIL import Image

SCRIPT = ROOT / 'demo/quickstart.py'


@pytest.fixture(scope='module')
def quickstart():
    return runpy.run_path(str(SCRIPT))


def metrics(*values):
    names = (
        'classification/top1', 'retrieval/image_to_text_R@1', 'retrieval/text_to_image_R@1', 'segmentation/mIoU',
        'regions/pointing',
    )  # fmt: skip
    return dict(zip(names, values, strict=True))


def test_small_run_gives_table_and_picture(quickstart, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('MMMASKCLIP_SCENES', '')  # So that what the quickstart sets is undone after the test.
    assert quickstart['main'](['--small', '--out', str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    results = json.loads((tmp_path / 'results.json').read_text())
    assert list(results) == ['chance', 'untrained', 'trained']
    for row in results.values():
        assert set(quickstart['COLUMNS']) <= set(row)
    table = quickstart['results_table'](results)
    assert table in shown
    assert [line.split()[0] for line in table.splitlines()[1:]] == list(results)
    width, height = Image.open(tmp_path / 'similarity.png').size
    assert width > 500
    assert height > 300
    # Progress is shown, the rest of mmengine's log is not.
    assert 'eta:' in shown
    assert 'Config:' not in shown
    assert len(shown.splitlines()) < 60


def test_targets_reached(quickstart):
    assert quickstart['missed_targets'](metrics(50.0, 18.0, 11.0, 30.0, 50.0)) == []


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ((49.9, 18.0, 11.0, 30.0, 50.0), 'zero-shot classification top-1 is 49.90, below 50'),
        ((50.0, 17.9, 11.0, 30.0, 50.0), 'image to text R@1 is 17.90, below 18'),
        ((50.0, 18.0, 10.9, 30.0, 50.0), 'text to image R@1 is 10.90, below 11'),
        ((50.0, 18.0, 11.0, 29.9, 50.0), 'zero-shot segmentation mIoU is 29.90, below 30'),
        ((50.0, 18.0, 11.0, 30.0, 49.9), 'pointing accuracy is 49.90, below 50'),
    ],
)
def test_missed_target_is_said(quickstart, values, message):
    assert quickstart['missed_targets'](metrics(*values)) == [message]


def test_missed_target_fails_the_run(quickstart, tmp_path, monkeypatch, capsys):
    answers = iter([metrics(*[0.0] * 5), metrics(50.0, 18.0, 10.9, 30.0, 50.0)])
    space = quickstart['main'].__globals__
    monkeypatch.setitem(
        space, 'run_quietly', lambda command, _: next(answers) if command.__module__.endswith('test') else None
    )
    for name in ('write_shards', 'draw_picture'):
        monkeypatch.setitem(space, name, lambda *_, **__: None)
    monkeypatch.setattr(Path, 'read_text', lambda path: 'epoch_1.pth')
    monkeypatch.setenv('MMMASKCLIP_SCENES', '')
    assert quickstart['main'](['--out', str(tmp_path)]) == 1
    assert 'Targets missed: text to image R@1 is 10.90' in capsys.readouterr().err


def test_chance_is_that_of_uniform_guesses(quickstart):
    classes = len(quickstart['CLASSES'])
    guesses = quickstart['chance'](720)
    intersection, union = 1 / classes**2, 2 / classes - 1 / classes**2
    assert guesses['segmentation/mIoU'] == pytest.approx(100 * intersection / union)
    assert guesses['retrieval/text_to_image_R@1'] == pytest.approx(100 / 720)
    # A circle of the mean radius, 0.2, covers 0.126 of the image, the mean of the shapes two thirds of it.
    assert 5 < guesses['regions/pointing'] < 10


def test_pictured_scenes_hold_the_words(quickstart, monkeypatch):
    scenes = []
    space = quickstart['find_scenes'].__globals__
    monkeypatch.setitem(space, 'draw_image', lambda scene, size: scenes.append(scene))
    quickstart['find_scenes'](quickstart['PICTURE_WORDS'])
    held = [{thing.name for thing in scene.objects} & set(quickstart['PICTURE_WORDS']) for scene in scenes]
    assert len(held) == 4
    assert min(map(len, held)) >= 2


def test_clip_is_drawn_above_maskclip_for_every_scene(quickstart, tmp_path, monkeypatch):
    rows, seen = [], []

    class Inferencer:
        def __init__(self, config, checkpoint):
            self.name = config.stem

        def similarity_maps(self, image, words, read_out):
            seen.append((self.name, read_out))
            return torch.zeros(len(words), *image.size)

    space = quickstart['draw_picture'].__globals__
    monkeypatch.setitem(space, 'ImageTextInferencer', Inferencer)
    monkeypatch.setitem(space, 'draw_similarity_maps', lambda given, words, path: rows.extend(given))
    models = {'CLIP': (quickstart['CLIP_CONFIG'], 'a.pth'), 'MaskCLIP': (quickstart['CONFIG'], 'b.pth')}
    quickstart['draw_picture'](models, tmp_path / 'x.png')
    assert [row.title for row in rows] == ['CLIP', 'MaskCLIP'] * 2
    assert (rows[0].image == rows[1].image).all()
    assert (rows[0].image != rows[2].image).any()
    assert [name for name, _ in seen] == ['vitxs8_scenes', 'vitxs8_scenes_local_v1'] * 2
    assert len({str(read_out) for _, read_out in seen}) == 1
