import json

import pytest
from paths import load_module
from PIL import Image


@pytest.fixture(scope='module')
def tool():
    return load_module('tools/analysis_tools/plot_curves.py')


def write_log(folder, lines):
    (folder / 'vis_data').mkdir(parents=True)
    (folder / 'vis_data/scalars.json').write_text('\n'.join(json.dumps(line) for line in lines))


def test_resumed_logs_are_joined_and_validation_is_placed_at_its_iteration(tool, tmp_path):
    write_log(
        tmp_path / 'run/20260101_000000',
        [{'loss': 3.0, 'iter': 10, 'step': 10}, {'loss': 2.5, 'iter': 20, 'step': 20}, {'R@1': 0.1, 'step': 1}],
    )
    write_log(tmp_path / 'run/20260102_000000', [{'loss': 2.4, 'iter': 20, 'step': 20}, {'R@1': 0.2, 'step': 2}])
    with open(tmp_path / 'run/20260102_000000/vis_data/scalars.json', 'a') as file:
        file.write('\n{"loss": 1.')  # killed while writing
    assert tool.read_curves(tmp_path / 'run') == {'loss': {10: 3.0, 20: 2.4}, 'R@1': {20: 0.2}}


@pytest.mark.parametrize(('resume', 'loss'), [(True, {10: 3.0, 20: 2.5}), (False, {20: 2.5})])
def test_another_run_of_the_same_folder_is_not_joined(tool, tmp_path, resume, loss):
    write_log(tmp_path / 'run/1', [{'loss': 3.0, 'iter': 10}])
    write_log(tmp_path / 'run/2', [{'loss': 2.5, 'iter': 20}])
    (tmp_path / 'run/2/vis_data/config.py').write_text(f'model = None\nresume = {resume}\n')
    assert tool.read_curves(tmp_path / 'run') == {'loss': loss}


def test_several_runs_into_one_png(tool, tmp_path):
    for name in ('clip', 'maskclip'):
        write_log(tmp_path / name / '1', [{'loss': 3.0, 'lr': 0.1, 'iter': 10}, {'loss': 2.5, 'lr': 0.2, 'iter': 20}])
    out = tmp_path / 'figures/curves.png'
    tool.main([str(tmp_path / 'clip'), str(tmp_path / 'maskclip'), '--keys', 'loss', 'lr', '--out', str(out)])
    with Image.open(out) as image:
        assert image.format == 'PNG'
        assert image.size == (1200, 900)


def test_unknown_keys_and_missing_logs_are_named(tool, tmp_path):
    write_log(tmp_path / 'run/1', [{'loss': 3.0, 'grad_norm': 1.0, 'iter': 10}])
    with pytest.raises(KeyError, match='Did you mean one of: grad_norm'):
        tool.main([str(tmp_path / 'run'), '--keys', 'gradnorm'])
    with pytest.raises(FileNotFoundError, match='nothing'):
        tool.main([str(tmp_path / 'nothing')])


def test_seeds_of_one_run_are_a_mean_in_a_band(tool, tmp_path, monkeypatch):
    for seed, losses in enumerate(([3.0, 2.0], [1.0, 4.0, 5.0])):
        lines = [{'loss': loss, 'iter': 10 * index} for index, loss in enumerate(losses)]
        write_log(tmp_path / f'seed{seed}' / '1', lines)
    drawn = []
    monkeypatch.setattr(tool, 'plot_curves', lambda runs, *_: drawn.append(runs))
    tool.main([f'{tmp_path}/seed0,{tmp_path}/seed1', f'{tmp_path}/seed1'])
    assert {label: len(seeds) for label, seeds in drawn[0].items()} == {'seed0': 2, 'seed1': 1}
    mean, low, high = tool.mean_and_band([curves['loss'] for curves in drawn[0]['seed0']])
    assert (mean, low, high) == ({0: 2.0, 10: 3.0}, {0: 1.0, 10: 2.0}, {0: 3.0, 10: 4.0})
    monkeypatch.undo()
    tool.main([f'{tmp_path}/seed0,{tmp_path}/seed1', '--out', str(tmp_path / 'band.png')])
    assert (tmp_path / 'band.png').is_file()
