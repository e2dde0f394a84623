"""The quickstart's whole flow at its smallest, and its judgement of the targets."""

import json
import runpy
from pathlib import Path

import pytest
from paths import ROOT
from PIL import Image

SCRIPT = ROOT / 'demo/quickstart.py'


@pytest.fixture(scope='module')
def quickstart():
    return runpy.run_path(str(SCRIPT))


def rows(classification, to_text, to_image, segmentation):
    names = ('classification/top1', 'retrieval/image_to_text_R@1', 'retrieval/text_to_image_R@1', 'segmentation/mIoU')
    return {
        'chance': dict(zip(names, (2.0, 0.1, 0.1, 1.0), strict=True)),
        'untrained': dict(zip(names, (2.5, 0.2, 0.1, 1.5), strict=True)),
        'trained': dict(zip(names, (classification, to_text, to_image, segmentation), strict=True)),
    }


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
    assert quickstart['missed_targets'](rows(20.0, 1.0, 1.0, 3.0)) == []


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ((19.9, 1.0, 1.0, 3.0), 'zero-shot classification top-1 is 19.90, below 10 x chance = 20.00'),
        ((20.0, 0.9, 1.0, 3.0), 'image to text R@1 is 0.90, below 10 x chance = 1.00'),
        ((20.0, 1.0, 0.9, 3.0), 'text to image R@1 is 0.90'),
        ((20.0, 1.0, 1.0, 2.9), 'zero-shot segmentation mIoU is 2.90, below 2 x untrained = 3.00'),
    ],
)
def test_missed_target_is_said(quickstart, values, message):
    (missed,) = quickstart['missed_targets'](rows(*values))
    assert missed.startswith(message)


def test_missed_target_fails_the_run(quickstart, tmp_path, monkeypatch, capsys):
    values = rows(20.0, 1.0, 0.9, 3.0)
    answers = iter([values['untrained'], values['trained']])
    space = quickstart['main'].__globals__
    monkeypatch.setitem(
        space, 'run_quietly', lambda command, _: next(answers) if command.__module__.endswith('test') else None
    )
    for name in ('write_shards', 'draw_picture'):
        monkeypatch.setitem(space, name, lambda *_, **__: None)
    monkeypatch.setitem(space, 'chance', lambda num_images: values['chance'])
    monkeypatch.setattr(Path, 'read_text', lambda path: 'epoch_1.pth')
    monkeypatch.setenv('MMMASKCLIP_SCENES', '')
    assert quickstart['main'](['--out', str(tmp_path)]) == 1
    assert 'Targets missed: text to image R@1 is 0.90' in capsys.readouterr().err


def test_chance_of_segmentation_is_that_of_uniform_guesses(quickstart):
    classes = len(quickstart['CLASSES'])
    intersection, union = 1 / classes**2, 2 / classes - 1 / classes**2
    assert quickstart['chance'](720)['segmentation/mIoU'] == pytest.approx(100 * intersection / union)
    assert quickstart['chance'](720)['retrieval/text_to_image_R@1'] == pytest.approx(100 / 720)


def test_pictured_scenes_hold_the_words(quickstart, monkeypatch):
    scenes = []
    space = quickstart['find_scenes'].__globals__
    monkeypatch.setitem(space, 'draw_image', lambda scene, size: scenes.append(scene))
    quickstart['find_scenes'](quickstart['PICTURE_WORDS'])
    held = [{thing.name for thing in scene.objects} & set(quickstart['PICTURE_WORDS']) for scene in scenes]
    assert len(held) == 4
    assert min(map(len, held)) >= 2
