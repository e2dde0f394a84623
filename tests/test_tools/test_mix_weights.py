import pytest
import torch
from paths import TOOLS, load_module

from mmmaskclip.checkpoints.safe_load import read_state_dict

TOOL = load_module(TOOLS / 'model_converters/mix_weights.py')
FIRST = {'image_encoder.a': torch.zeros(2), 'image_encoder.n': torch.tensor(3)}
SECOND = {'image_encoder.a': torch.tensor([1.0, 4.0]), 'image_encoder.n': torch.tensor(5), 'teacher.a': torch.ones(1)}


def test_mixtures_are_between_the_weights(tmp_path):
    paths = [tmp_path / 'first.pth', tmp_path / 'second.pth']
    for path, weights in zip(paths, (FIRST, SECOND), strict=True):
        torch.save(weights, path)
    TOOL.main([*map(str, paths), str(tmp_path / 'out'), '--alpha', '0', '0.25', '1'])
    found = {path.stem: read_state_dict(path) for path in (tmp_path / 'out').iterdir()}
    assert sorted(found) == ['alpha_0', 'alpha_0.25', 'alpha_1']
    assert [weights['image_encoder.a'].tolist() for _, weights in sorted(found.items())] == [[0, 0], [0.25, 1], [1, 4]]
    assert {*found['alpha_1']} == {*FIRST}


def test_curve_has_a_row_for_each_mixture(tmp_path, monkeypatch):
    monkeypatch.setattr('mmmaskclip.cli.test.main', lambda args: {'top1': float(args[1].split('_')[-1][:3])})
    for name, weights in (('a', FIRST), ('b', SECOND)):
        torch.save(weights, tmp_path / f'{name}.pth')
    arguments = [str(tmp_path / name) for name in ('a.pth', 'b.pth', 'out')]
    TOOL.main([*arguments, '--alpha', '0.5', '0.2', '--test', 'configs/zero_shot/cifar10.py', '--model', 'x.py'])
    assert (tmp_path / 'out/curve.md').read_text().splitlines() == [
        '| alpha | cifar10/top1 |',
        '|---|---|',
        '| 0.2 | 0.20 |',
        '| 0.5 | 0.50 |',
    ]


def test_weights_that_do_not_belong_together_are_named():
    with pytest.raises(ValueError, match="lack 1 of 3 parameters: .'teacher.a'."):
        TOOL.mix(SECOND, FIRST, 0.5)
    with pytest.raises(ValueError, match=r'1 parameters have other shapes, e.g. image_encoder.a: \(2,\) and \(3,\)'):
        TOOL.mix(FIRST, {**FIRST, 'image_encoder.a': torch.ones(3)}, 0.5)
