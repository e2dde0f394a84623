import os
import re

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from mmmaskclip.utils import checkpoint
from mmmaskclip.utils.checkpoint import load_weights, read_state_dict


class RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_reads_what_a_runner_saves(tmp_path):
    history = HistoryBuffer()
    history.update(1.5)
    torch.save(
        {
            'state_dict': {'module.weight': torch.ones(2)},
            'message_hub': {'log_scalars': {'loss': history}, 'info': {'a': np.int64(1), 'b': np.zeros(2)}},
            'meta': {'epoch': 1},
        },
        tmp_path / 'a.pth',
    )
    state = read_state_dict(tmp_path / 'a.pth')
    assert list(state) == ['weight']
    torch.testing.assert_close(state['weight'], torch.ones(2))


def test_runs_no_code_of_the_file(tmp_path):
    torch.save({'state_dict': {'a': torch.ones(1)}, 'x': RunsCode(str(tmp_path / 'made'))}, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match=r'refers to \w+\.mkdir, which could run code'):
        read_state_dict(tmp_path / 'evil.pth')
    assert not (tmp_path / 'made').exists()


def test_getattr_of_a_file_is_not_the_real_one(tmp_path, monkeypatch):
    class Reaches:
        def __reduce__(self):
            return getattr, ('text', 'upper')

    reached = []
    monkeypatch.setattr(checkpoint._Inert, '__init__', lambda self, *args: reached.append(args))
    torch.save({'state_dict': {'a': torch.ones(1)}, 'x': Reaches()}, tmp_path / 'a.pth')
    assert list(read_state_dict(tmp_path / 'a.pth')) == ['a']
    assert reached == [('text', 'upper')]


@pytest.mark.parametrize('content', ['truncated', b'', b'<html>not found</html>'])
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / 'broken.pth'
    torch.save({'a': torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:200] if content == 'truncated' else content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_state_dict(path)


def test_missing_files_and_files_without_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no checkpoint .*gone\.pth'):
        read_state_dict(tmp_path / 'gone.pth')
    torch.save({'state_dict': {}}, tmp_path / 'empty.pth')
    with pytest.raises(ValueError, match='holds no state dict'):
        read_state_dict(tmp_path / 'empty.pth')


def test_shapes_and_names_must_fit(tmp_path):
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / 'a.pth')
    load_weights(nn.Linear(2, 3), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='does not fit Linear as configured.*size mismatch for weight'):
        load_weights(nn.Linear(4, 3), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'2 missing: 0\.weight, 0\.bias; 2 not in the model: weight, bias'):
        load_weights(nn.Sequential(nn.Linear(2, 3)), tmp_path / 'a.pth')
