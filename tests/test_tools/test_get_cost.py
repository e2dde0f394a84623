import pytest
from mmengine.config import Config
from paths import CONFIGS, load_module


@pytest.fixture(scope='module')
def tool():
    return load_module('tools/analysis_tools/get_cost.py')


def rows(text):
    """The last table's rows, as lists of cells."""
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines() if line.startswith('| conf')]


def test_tables_of_the_papers_methods(tool, capsys):
    clip, maskclip = (str(CONFIGS / f'{name}/vitb16_laion20m.py') for name in ('clip', 'maskclip'))
    tool.main([clip, maskclip])
    output = capsys.readouterr().out.replace(str(CONFIGS), 'configs')
    parameters, long, short = output.split('GFLOPs per image')[0], *output.split('GFLOPs per image')[1:]
    assert '| configs/clip/vitb16_laion20m.py | 149.6 M | 149.6 M | 0.0 M |' in parameters
    assert 'captions of 77 tokens' in long
    assert 'captions of 14 tokens' in short
    head, base, ours = rows(long)
    assert head[-3:] == ['all', 'ratio', 'paper (time)']
    # OpenCLIP's model profile has 41.09 billion operations for the forward pass of ViT-B/16 and its text tower.
    assert float(base[-3]) == pytest.approx(3 * 41.09, rel=0.01)
    assert base[-2:] == ['1.00x', '1.00x']
    assert ours[-1] == '1.56x'
    assert 1.4 < float(ours[-2][:-1]) < 1.6
    # With short captions the image tower is more of the whole, and so is what MaskCLIP adds to it.
    assert float(rows(short)[2][-2][:-1]) > float(ours[-2][:-1])


def test_papers_column_is_for_its_methods_only(tool):
    def paper(path):
        return tool.paper_time(Config.fromfile(CONFIGS / path))

    names = ('clip/vitb16_laion20m', 'slip/vitb16_laion20m', 'clip_mae/vitb16_laion20m_v1', 'clip_beit/vitb16_laion20m')
    names += ('maskclip/vitb16_laion20m',)
    assert [paper(f'{name}.py') for name in names] == [1.00, 2.67, 1.30, 1.82, 1.56]
    others = ('clip/vitt16_flickr8k.py', 'maskclip_fast/vitb16_laion20m.py', 'silc/vitb16_laion20m.py')
    others += ('siglip/vitb16_laion20m.py', 'mae/vitb16_laion20m.py')
    assert [paper(path) for path in others] == [None] * 5


def test_models_of_mmpretrain_are_counted_too(tool, capsys):
    tool.main([str(CONFIGS / 'simclr/vitt16_flickr8k.py'), '--caption-length', '5'])
    assert 'image tower' in capsys.readouterr().out
