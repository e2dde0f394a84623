import os

import pytest
import torch
from mmengine.model import BaseModule, PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmmaskclip.checkpoints.mmengine_loading import SafePretrainedInit, use_safe_loading


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ('harm',)


class Tower(BaseModule):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer = nn.Linear(2, 3)


@pytest.fixture
def safe_loading(monkeypatch):
    """mmengine loads by the safe reader until the test ends."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    monkeypatch.setitem(WEIGHT_INITIALIZERS._module_dict, 'Pretrained', PretrainedInit)
    CheckpointLoader.register_scheme('other://', lambda *_: os.mkdir('harm'))  # of another package
    use_safe_loading()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = {f'backbone.{name}': value for name, value in Tower().state_dict().items()}
    torch.save({'state_dict': state}, 'good.pth')
    torch.save({'state_dict': state, 'more': RunsCode()}, 'harmful.pth')
    return state


def test_initializer_runs_no_code_and_refuses_what_does_not_fit(safe_loading, folder):
    tower = Tower(init_cfg=dict(type='Pretrained', checkpoint='good.pth', prefix='backbone.'))
    tower.init_weights()
    assert torch.equal(tower.layer.weight, folder['backbone.layer.weight'])
    with pytest.raises(ValueError, match='could run code, so it is not loaded'):
        Tower(init_cfg=dict(type='Pretrained', checkpoint='harmful.pth', prefix='backbone.')).init_weights()
    with pytest.raises(ValueError, match=r"Nothing in 'good\.pth' is of Tower"):
        Tower(init_cfg=dict(type='Pretrained', checkpoint='good.pth')).init_weights()
    assert not os.path.exists('harm')


@pytest.mark.parametrize('prefix', ['', 'https://host/', 'torchvision://', 'open-mmlab://'])
def test_mmengines_own_loading_runs_no_code(safe_loading, folder, monkeypatch, prefix):
    monkeypatch.setattr('mmmaskclip.checkpoints.mmengine_loading.local_path', lambda source: source.split('/')[-1])
    tower = Tower()
    load_checkpoint(tower, f'{prefix}good.pth', revise_keys=[('^backbone.', '')])
    assert torch.equal(tower.layer.weight, folder['backbone.layer.weight'])
    with pytest.raises(ValueError, match='could run code'):
        load_checkpoint(tower, f'{prefix}harmful.pth')
    assert not os.path.exists('harm')


@pytest.mark.parametrize(
    'address', ['s3://b/harmful.pth', 'open-mmlab:s3://b/harmful.pth', 'petrel://b/harmful.pth', 'pavi://b/harmful.pth',
                'mmcls://harmful', 'other://harmful.pth']
)  # fmt: skip
def test_addresses_that_the_safe_reader_does_not_reach_are_refused(safe_loading, folder, address):
    """mmengine, and whoever registers a loader, would unpickle what they hold."""
    with pytest.raises(ValueError, match='checkpoints are read from files and from https:// addresses, and not by'):
        load_checkpoint(Tower(), address)
    assert not os.path.exists('harm')


def test_no_loader_of_mmengine_is_left(safe_loading):
    assert {loader.__name__ for loader in CheckpointLoader._schemes.values()} == {'load_from_safe_reader'}


def test_a_run_of_ours_loads_safely_and_an_import_changes_nothing(monkeypatch, folder):
    """Whoever only imports mmmaskclip keeps mmengine's initializer."""
    from mmmaskclip.engine import ReliableRunner

    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    monkeypatch.setitem(WEIGHT_INITIALIZERS._module_dict, 'Pretrained', PretrainedInit)
    ReliableRunner.__new__(ReliableRunner).build_model(nn.Linear(1, 1))
    assert WEIGHT_INITIALIZERS.get('Pretrained') is SafePretrainedInit
