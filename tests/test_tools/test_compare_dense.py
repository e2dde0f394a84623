"""Comparing dense features, and two results, with runs that are stand-ins."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from paths import CONFIGS, load_module
from PIL import Image

import mmmaskclip.cli.test
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
    # Issued numbers of the papers' tables: the mean of each row, as they print it.
    means = {name: round(sum(row.values()) / 8, 2) for name, row in tool.PUBLISHED.rows.items()}
    assert means == pytest.approx(
        dict(patch=13.6, value=30.3, qq=38.1, csa=38.2, naclip=39.4, resclip=40.6, self_calibrated=43.9), abs=0.051
    )
    headers = {name: (CONFIGS / f'zero_shot_seg/{name}.py').read_text() for name in tool.PUBLISHED.rows['value']}
    for name, header in headers.items():
        assert f'value {tool.PUBLISHED.rows["value"][name]}' in ' '.join(header.split())


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
    assert set(record['prompts']) == {'classes of CamVidDataset', 'templates scenes_85'}
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


def test_class_names_of_a_data_set_are_prompts_too(tmp_path):
    """Of mmseg's data sets, of a config, and of an annotation file."""

    def prompts(**dataset):
        return evaluation_record(Config(dict(test_dataloader=dict(a=dict(dataset=dataset)))), 'none', False)['prompts']

    names = [prompts(type='mmseg.ADE20KDataset')]
    names.append(prompts(type='mmseg.ADE20KDataset', metainfo=dict(classes=['wall', 'sky'])))
    for index, name in enumerate(('cat', 'dog')):
        file = tmp_path / f'{index}.json'
        file.write_text(json.dumps(dict(categories=[dict(id=1, name=name)])))
        names.append(prompts(type='PanopticRegions', ann_file=str(file)))
    keys = ['classes of mmseg.ADE20KDataset', 'classes of PanopticRegions']
    assert [key for one in names for key in one] == [keys[0]] * 2 + [keys[1]] * 2
    assert len({value for one in names for value in one.values()}) == 4


@pytest.fixture
def published(tool, tmp_path, monkeypatch, tiny_model_cfg):
    """Runs the command with a table of two protocols; returns its exit code.

    tools/test.py runs in this process, with all it does but the evaluation itself, which measures 37.25 and 20.5 mIoU.
    """
    monkeypatch.chdir(tmp_path)
    model = tiny_model_cfg()
    del model['text_encoder']['vocab_size']  # CLIP's, whose tokens the prompts are
    Config(dict(default_scope='mmmaskclip', model=model)).dump(tmp_path / 'tiny.py')
    for name in ('one', 'two'):
        (tmp_path / f'{name}.py').write_text(
            f'_base_ = [{str(CONFIGS / "zero_shot_seg/_base_/sclip.py")!r}]\n'
            "test_dataloader = dict(segmentation=dict(num_workers=0, dataset=dict(type='CamVidDataset', "
            f"data_root='data/{name}', data_prefix=dict(img_path='images', seg_map_path='masks'))))\n"
            "test_cfg = dict(num_images=2, segmentor=dict(templates=['{}'], classes=[f'c{i}' for i in range(11)], "
            'test_cfg=dict(crop_size=(32, 32), stride=(16, 16))))\n'
        )
        for folder in ('images', 'masks'):
            (tmp_path / f'data/{name}' / folder).mkdir(parents=True)

    started = subprocess.run

    def evaluate(cfg, checkpoint, amp):
        one = str(cfg.test_dataloader.segmentation.dataset.data_root).endswith('one')
        return {'segmentation/mIoU': 37.25 if one else 20.5}

    def run(command, **options):
        if 'mmmaskclip.cli.test' not in command:
            return started(command, **options)
        mmmaskclip.cli.test.main(command[3:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(mmmaskclip.cli.test, 'evaluate', evaluate)
    monkeypatch.setattr(tool.subprocess, 'run', run)

    def command(rows, *arguments):
        content = dict(
            source='a paper', weights=dict(name='theirs.pt'), metric='segmentation/mIoU', within=0.5,
            protocols=['one.py', 'two.py'], rows=rows,
        )  # fmt: skip
        (tmp_path / 'rows.json').write_text(json.dumps(content))
        options = ['--model', 'tiny.py', '--checkpoints', 'none', '--out', 'out', '--published', 'rows.json']
        return tool.main([*options, '--read-outs', 'value', *arguments])

    return command


def test_a_published_row_is_reproduced_within_half_a_point_only(published, tmp_path, capsys):
    assert published({'value': [0, 0]}) == 1
    judged = json.loads((tmp_path / 'out/published.json').read_text())[0]
    one, two = judged['here'].values()
    assert (one, two) == (37.25, 20.5)
    assert judged['verdict'].startswith(f'not reproduced: {(one + two) / 2:.2f} for 0.00; further off by themselves: ')
    # The runs are not repeated: what is judged is what they measured.
    assert published({'value': [one + 1.4, two - 0.5]}) == 0
    assert 'reproduced: ' in capsys.readouterr().out
    assert published({'value': [one + 1.5, two - 0.4]}) == 1
    assert f'| tiny-none | value | {one:.2f} (' in (tmp_path / 'out/published.md').read_text()


def test_a_row_with_a_set_missing_or_other_settings_is_not_judged(published, tmp_path, capsys):
    (tmp_path / 'data/two').rename(tmp_path / 'elsewhere')
    assert published({'value': [0, 0]}) == 1
    verdict = json.loads((tmp_path / 'out/published.json').read_text())[0]['verdict']
    assert verdict.startswith("cannot be judged: two is missing (test_dataloader.segmentation.dataset.data_root='data/")
    # Where the data lie changes no number; another list of templates does.
    place = 'test_dataloader.segmentation.dataset.data_root=elsewhere'
    templates = 'test_cfg.segmentor.templates=["a photo of a {}"]'
    assert published({'value': [0, 0]}, '--options', place, templates) == 1
    verdict = json.loads((tmp_path / 'out/published.json').read_text())[0]['verdict']
    assert verdict.startswith('cannot be judged: two was run with test_cfg.segmentor.templates.0: ')
    assert 'one' not in verdict.partition(':')[2].split('with')[0]


def test_a_table_that_is_none_is_refused(published, tmp_path, capsys):
    for rows, message in (({'naclip': [1, 2]}, 'no row for value'), ({'value': [1]}, 'no table of published rows')):
        with pytest.raises(SystemExit):
            published(rows)
        assert message in capsys.readouterr().err
