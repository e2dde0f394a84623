import ast
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from torch import nn

from mmmaskclip.checkpoints.safe_load import read_checkpoint, read_state_dict
from mmmaskclip.checkpoints.stand_in import StandIn


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
    monkeypatch.setattr(StandIn, '__init__', lambda self, *args: reached.append(args))
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


def test_reason_does_not_advise_to_load_without_protection(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_text('{"metadata": {}, "weight_map": {}}' + ' ' * 100)
    with pytest.raises(ValueError, match=r'a\.pth.* is damaged or no checkpoint') as error:
        read_state_dict(path)
    assert 'weights_only' not in str(error.value)


def test_folder_is_not_a_checkpoint(tmp_path):
    with pytest.raises(IsADirectoryError, match='is a folder without any checkpoint'):
        read_state_dict(tmp_path)
    for name in ('model.safetensors', 'config.json', 'pytorch_model.bin'):
        (tmp_path / name).touch()
    with pytest.raises(
        IsADirectoryError, match=r'is a folder: give the file in it, model\.safetensors or pytorch_model\.bin\.'
    ):
        read_state_dict(tmp_path)


def test_parts_of_a_checkpoint_are_read_by_their_index(tmp_path):
    parts = {
        f'pytorch_model-0000{part}-of-00002.bin': {name: torch.full((2,), part)} for part, name in ((1, 'a'), (2, 'b'))
    }
    index = tmp_path / 'pytorch_model.bin.index.json'
    index.write_text(
        json.dumps({'metadata': {}, 'weight_map': {next(iter(part)): name for name, part in parts.items()}})
    )
    with pytest.raises(FileNotFoundError, match=r'names pytorch_model-00001-of-00002\.bin, .*get all 2'):
        read_state_dict(index)
    for name, part in parts.items():
        torch.save(part, tmp_path / name)
    state = read_state_dict(index)
    assert {name: value.tolist() for name, value in state.items()} == {'a': [1, 1], 'b': [2, 2]}
    with pytest.raises(ValueError, match=r'is one of 2 parts: give the index file .*pytorch_model\.bin\.index\.json'):
        read_state_dict(tmp_path / 'pytorch_model-00002-of-00002.bin')
    for content, message in (('{', 'is damaged or no JSON'), ('{}', 'has no weight_map'), ('[]', 'no JSON object')):
        index.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_state_dict(index)


def test_a_whole_pickled_module_is_read_as_its_state_dict(tmp_path):
    """Parameters and buffers, but for buffers that a state dict leaves out; no class of the file is imported."""
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    module[0].register_buffer('unsaved', torch.ones(1), persistent=False)
    torch.save(module, tmp_path / 'whole.pt')
    state = read_state_dict(tmp_path / 'whole.pt')
    assert list(state) == list(module.state_dict())
    for name, value in module.state_dict().items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.', '_orig_mod.module.'])
def test_what_wrappers_put_before_names_is_taken_off(tmp_path, monkeypatch, prefix):
    monkeypatch.chdir(tmp_path)
    torch.save({f'{prefix}visual._orig_mod.proj': torch.ones(1), f'{prefix}my_orig_mod.a': torch.ones(1)}, 'a.pth')
    assert list(read_state_dict('a.pth')) == ['visual.proj', 'my_orig_mod.a']


@pytest.mark.parametrize('form', ['safetensors', 'bare'])
def test_every_format_is_a_checkpoint_to_a_runner(tmp_path, form):
    path = tmp_path / ('model.safetensors' if form == 'safetensors' else 'model.pt')
    if form == 'safetensors':
        save_file({'weight': torch.ones(2)}, path)
        assert read_checkpoint(path)['state_dict']['weight'].tolist() == [1, 1]
    else:
        torch.save({'model': {'weight': torch.ones(2)}, 'epoch': 3}, path)
        assert read_checkpoint(path)['epoch'] == 3
    assert read_state_dict(path)['weight'].tolist() == [1, 1]


def test_only_one_reader_unpickles():
    """No other file of the package and no tool calls a loader that runs what a file says."""
    root = Path(__file__).parents[2]
    # Calls, not texts: a model card says how its graph is loaded.
    unsafe = re.compile(
        r'(.*\.)?(torch\.load|pickle\.loads?|jit\.load|load_state_dict_from_url|dill\.\w+|joblib\.load)'
    )
    found = {
        str(file.relative_to(root))
        for folder in ('mmmaskclip', 'tools', 'demo')
        for file in (root / folder).rglob('*.py')
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and unsafe.fullmatch(ast.unparse(node.func))
    }
    assert found == {'mmmaskclip/checkpoints/safe_load.py'}
