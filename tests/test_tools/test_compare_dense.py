"""Comparing dense features, and two results, with runs that are stand-ins."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from paths import CONFIGS, load_module
from PIL import Image

from mmmaskclip.analysis.evaluation_record import evaluation_record

CAMVID = str(CONFIGS / 'zero_shot_seg/camvid_maskclip.py')
SCENES = str(CONFIGS / 'region_accuracy/scenes.py')
MODEL = str(CONFIGS / 'maskclip/vitxs16_scenes_v1.py')


@pytest.fixture(scope='module')
def tool():
    return load_module('tools/analysis_tools/compare_dense.py')


@pytest.fixture(scope='module')
def compare_results():
    return load_module('tools/analysis_tools/compare_results.py').main


def test_cells_that_are_done_are_not_run_again(tool, tmp_path, monkeypatch, capsys):
    commands = []

    def run(command, **_):
        commands.append(command)
        read_out = command[-1].rpartition('=')[2]
        Path(command[command.index('--out') + 1]).write_text(json.dumps({'metrics': {'mIoU': len(read_out)}}))

        class Done:
            returncode = read_out == 'csa'

        return Done

    monkeypatch.setattr(tool.subprocess, 'run', run)
    arguments = ['--model', MODEL, '--checkpoints', 'none', '--protocols', CAMVID, SCENES, '--out', str(tmp_path)]
    assert tool.main([*arguments, '--read-outs', 'value', 'naclip']) == 0
    assert sorted(command[-1] for command in commands) == [
        'test_cfg.segmentor.read_out=naclip', 'test_cfg.segmentor.read_out=value',
        'test_evaluator.regions.read_out=naclip', 'test_evaluator.regions.read_out=value',
    ]  # fmt: skip
    table = (tmp_path / 'table.md').read_text()
    assert '| vitxs16_scenes_v1-none | naclip | camvid_maskclip | mIoU | 6.00 |  |  |' in table
    assert table.strip() in capsys.readouterr().out
    assert json.loads((tmp_path / 'table.json').read_text())[0]['read-out'] == 'value'
    commands.clear()
    assert tool.main([*arguments, '--read-outs', 'value', 'csa', '--jobs', '2']) == 1
    assert {command[-1].rpartition('=')[2] for command in commands} == {'csa'}
    assert not list(tmp_path.glob('*--csa--*.json'))
    assert 'failed, see' in capsys.readouterr().err


def test_published_values_stand_beside_their_sets(tool):
    cells = [
        tool.Cell('m.py', 'a.pth', 'naclip', f'configs/zero_shot_seg/voc20_{name}.py') for name in ('sclip', 'tcl')
    ]
    rows = tool.make_rows({cell: {'segmentation/mIoU': 80.2, 'segmentation/aAcc': 90.0} for cell in cells})
    assert (rows[0]['here'], rows[0]['published']) == (80.2, 79.7)
    table = tool.make_table(rows)
    assert '| m-a | naclip | voc20_sclip | segmentation/mIoU | 80.20 | 79.7 | +0.50 |' in table
    assert '| segmentation/aAcc | 90.00 |  |  |' in table
    assert '| m-a | naclip | voc20_tcl | segmentation/mIoU | 80.20 |  |  |' in table  # of another protocol
    assert all(set(row) == set(tool.PUBLISHED['value']) for row in tool.PUBLISHED.values())
    names = {path.stem.rpartition('_')[0] for path in (CONFIGS / 'zero_shot_seg').glob('*.py')}
    assert set(tool.PUBLISHED['value']) <= names


def test_a_sheet_shows_pictures_of_every_tower_and_read_out(tool, tmp_path, monkeypatch):
    """A stand-in says one class per read-out; the sheet has a row for each picture and a column for each pair."""
    drawn = {}

    class Inferencer:
        def __init__(self, model, checkpoint, numpy):
            assert (checkpoint, numpy) == (None, True)

        def segment(self, image, classes, templates, read_out):
            assert [names[0] for names in classes] == ['cat', 'dog']
            return np.full(image.size[::-1], ['patch', 'kk'].index(read_out))

    monkeypatch.setattr('mmmaskclip.apis.ImageTextInferencer', Inferencer)
    monkeypatch.setattr(tool, 'run', lambda cell, args: False)
    monkeypatch.setattr(
        'mmmaskclip.visualization.draw_segmentations',
        lambda rows, titles, classes, path: drawn.update(rows=rows, titles=titles, classes=classes, path=path),
    )
    for name in 'ab':
        Image.new('RGB', (6, 4)).save(tmp_path / f'{name}.png')
    pictures = [str(tmp_path / f'{name}.png') for name in 'ab']
    arguments = ['--model', MODEL, '--checkpoints', 'none', '--protocols', SCENES, '--out', str(tmp_path)]
    tool.main([*arguments, '--read-outs', 'patch', 'kk', '--pictures', *pictures, '--classes', 'cat', 'dog'])
    assert drawn['titles'] == ['vitxs16_scenes_v1-none patch', 'vitxs16_scenes_v1-none kk']
    assert [row.labels[:, 0, 0].tolist() for row in drawn['rows']] == [[0, 1], [0, 1]]
    assert drawn['path'] == tmp_path / 'pictures.png'
    with pytest.raises(SystemExit):
        tool.main([*arguments, '--pictures', *pictures])


def test_what_differs_between_two_results_is_named(compare_results, tmp_path, capsys):
    (tmp_path / 'weights.pth').write_bytes(b'weights')
    for name, read_out in (('a', 'patch'), ('b', 'naclip'), ('c', 'patch')):
        cfg = Config.fromfile(CAMVID)
        cfg.test_cfg.segmentor.read_out = read_out
        record = evaluation_record(cfg, str(tmp_path / 'weights.pth'), amp=name == 'c')
        (tmp_path / f'{name}.json').write_text(json.dumps(dict(metrics=dict(mIoU=ord(name)), record=record)))
    assert 'templates scenes_85' in record['prompts']
    assert compare_results([str(tmp_path / 'a.json'), str(tmp_path / 'a.json')]) == 0
    assert 'The settings are the same.' in capsys.readouterr().out
    assert compare_results([str(tmp_path / 'a.json'), str(tmp_path / 'b.json')]) == 1
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == "test_cfg.segmentor.read_out: 'patch' != 'naclip'"
    assert 'mIoU    97.0000  98.0000' in shown
    compare_results([str(tmp_path / 'a.json'), str(tmp_path / 'c.json')])
    assert "precision: 'float32' != 'bfloat16'" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        compare_results([str(tmp_path / 'a.json'), str(tmp_path / 'weights.pth')])
