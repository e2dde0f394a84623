"""The notebooks run from their first cell to their last, on a few images and a small model, without Jupyter."""

import ast
import json

import matplotlib
import pytest
from paths import ROOT
from small_pairs import write_pairs, write_weights

NOTEBOOKS = sorted((ROOT / 'demo/notebooks').glob('*.ipynb'))
SMALL = {
    'your_photos': dict(PHOTOS='pairs', WEIGHTS='clip', WORDS=['red', 'blue'], PLACES=['red', 'green']),
    'fine_tune': dict(PAIRS='pairs', WEIGHTS='clip', OUT='out', OPTIONS=dict(epochs=1, zero_shot=None, device='cpu')),
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use('agg', force=True)
    write_pairs(tmp_path / 'pairs', 12)
    (tmp_path / 'pairs/damaged.jpg').write_bytes(b'no image')
    write_weights(tmp_path / 'clip')
    return tmp_path


def run(path, parameters):
    """Run the code cells in one namespace; those tagged ``parameters`` are followed by other values."""
    names = {'__name__': '__main__'}
    for number, cell in enumerate(json.loads(path.read_text())['cells']):
        if cell['cell_type'] != 'code':
            continue
        assert not cell['outputs']
        exec(compile(''.join(cell['source']), f'{path.name}, cell {number}', 'exec'), names)
        if 'parameters' in cell['metadata'].get('tags', ()):
            assert {*parameters} <= {*names}
            names.update(parameters)
    return names


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, home, capsys):
    names = run(path, SMALL[path.stem])
    said = capsys.readouterr().out
    if path.stem == 'your_photos':
        assert (len(names['index']), list(names['index'].bad)) == (12, ['pairs/damaged.jpg'])
        assert '12 photos, 1 that cannot be used' in said
        assert names['labels'].shape == (40, 48)
    else:
        assert 'retrieval/image_to_text_R@1' in said
        assert 'after [' in said


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_first_code_cell_has_the_parameters(path):
    first = next(cell for cell in json.loads(path.read_text())['cells'] if cell['cell_type'] == 'code')
    assert first['metadata']['tags'] == ['parameters']
    names = {target.id for node in ast.parse(''.join(first['source'])).body for target in node.targets}
    assert {*SMALL[path.stem]} <= names
