import json
import os
import re

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from mmmaskclip.checkpoints import weights as checkpoint
from mmmaskclip.checkpoints.weights import load_weights, read_state_dict
from mmmaskclip.registry import MODELS


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


def test_positions_of_another_image_size_are_refused(tmp_path, tiny_model_cfg):
    cfg = tiny_model_cfg()
    torch.save(MODELS.build(cfg).state_dict(), tmp_path / 'a.pth')
    cfg['image_encoder']['img_size'] = 48
    message = r'image_encoder\.pos_embed has 17 positions, but img_size=\(48, 48\) needs 37'
    with pytest.raises(ValueError, match=message):
        load_weights(MODELS.build(cfg), tmp_path / 'a.pth')


def test_shapes_and_names_are_told_together(tmp_path):
    torch.save({'0.weight': torch.ones(3, 2), 'more': torch.ones(1)}, tmp_path / 'a.pth')
    message = (
        r'2 missing: 0\.bias, 1\.weight; 1 not in the model: more; 1 of another shape: '
        r'size mismatch for 0\.weight: \(3, 2\) in the file, \(3, 4\) in the model'
    )
    with pytest.raises(ValueError, match=message):
        load_weights(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1, bias=False)), tmp_path / 'a.pth')


def test_shapes_and_names_must_fit(tmp_path):
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / 'a.pth')
    load_weights(nn.Linear(2, 3), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='does not fit Linear as configured.*size mismatch for weight'):
        load_weights(nn.Linear(4, 3), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'2 missing: 0\.weight, 0\.bias; 2 not in the model: weight, bias'):
        load_weights(nn.Sequential(nn.Linear(2, 3)), tmp_path / 'a.pth')
