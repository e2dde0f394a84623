import json

import pytest
import torch
from paths import CONFIGS, load_module

from mmmaskclip.analysis.contenders import shorten


@pytest.fixture(scope='module')
def tool():
    return load_module('tools/analysis_tools/bench_step.py')


def test_captions_have_the_lengths_asked_for():
    tokens = torch.full((4, 10), 5)
    tokens[:, 0], tokens[:, -1] = 98, 99
    short = shorten(tokens, 4)
    assert (short.argmax(dim=1) + 1).tolist() == [4, 6, 8, 10]
    assert short[0].tolist() == [98, 5, 5, 99, 0, 0, 0, 0, 0, 0]


def test_our_config_against_open_clip(tool, tmp_path, monkeypatch, capsys):
    open_clip = pytest.importorskip('open_clip')
    vision = dict(image_size=32, layers=1, width=32, patch_size=16, head_width=16)
    text = dict(context_length=77, vocab_size=49408, width=16, heads=2, layers=1)
    monkeypatch.setattr(open_clip, 'create_model', lambda name: open_clip.CLIP(16, vision, text))
    config = str(CONFIGS / 'maskclip/vitxs16_scenes_v1.py')
    options = ['--batch-size', '2', '--steps', '1', '--warm-up', '0', '--caption-length', '12', '--parts', '--profile']
    tool.main(['open_clip:tiny', config, *options, '--json', str(tmp_path / 'table.json')])
    table = json.loads((tmp_path / 'table.json').read_text())
    theirs, ours = table['rows']
    assert (theirs['contender'], theirs['ratio']) == ('open_clip:tiny', 1)
    assert ours['contender'] == config
    for row in (theirs, ours):
        assert row['flops_per_second'] > 0
        assert row['images_per_second'] == pytest.approx(2 / row['seconds'])
    assert {'image tower, whole images', 'text tower', 'backward pass'} <= set(table['parts']['open_clip:tiny'])
    output = capsys.readouterr().out
    assert f'| {config} |' in output
    assert 'matrix products' in output
