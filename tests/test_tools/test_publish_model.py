import hashlib
import os

import pytest
import safetensors
import torch
from paths import load_module

from mmmaskclip.checkpoints.files import write_checkpoint
from mmmaskclip.checkpoints.image_tower import load_image_tower
from mmmaskclip.checkpoints.safe_load import read_state_dict
from mmmaskclip.checkpoints.weights import load_weights
from mmmaskclip.models.from_pretrained import from_pretrained
from mmmaskclip.registry import MODELS


@pytest.fixture
def publish():
    module = load_module('tools/model_converters/publish_model.py')
    return lambda *arguments: module.main([str(argument) for argument in arguments])


@pytest.fixture
def model(tiny_model_cfg):
    model = MODELS.build(tiny_model_cfg())
    model.init_weights()
    return model


@pytest.fixture
def checkpoint(tmp_path, model):
    write_checkpoint(
        tmp_path / 'iter_9.pth', {'state_dict': model.state_dict(), 'optimizer': {'m': torch.ones(9)}, 'meta': {}}
    )
    return tmp_path / 'iter_9.pth'


def test_published_model_is_the_model_without_the_rest(publish, checkpoint, model, tiny_model_cfg, capsys):
    target = checkpoint.parent / 'out/model.safetensors'
    publish(checkpoint, target)
    assert f'sha256 {hashlib.sha256(target.read_bytes()).hexdigest()}' in capsys.readouterr().out
    assert os.listdir(target.parent) == ['model.safetensors']
    with safetensors.safe_open(target, 'pt') as file:
        assert file.metadata()['source'] == 'iter_9.pth'
    other = MODELS.build(tiny_model_cfg())
    load_weights(other, target)
    torch.testing.assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_published_model_needs_no_config(publish, tmp_path, model, tiny_model_cfg):
    text = f"model = {tiny_model_cfg()!r}\ndata_root = '/home/me'\n"
    write_checkpoint(tmp_path / 'epoch_1.pth', {'state_dict': model.state_dict(), 'meta': {'cfg': text}})
    publish(tmp_path / 'epoch_1.pth', tmp_path / 'model.safetensors')
    assert b'/home/me' not in (tmp_path / 'model.safetensors').read_bytes()
    found = from_pretrained(tmp_path / 'model.safetensors').model
    torch.testing.assert_close(found.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_image_tower_alone(publish, checkpoint, model, tiny_model_cfg):
    target = checkpoint.parent / 'tower.safetensors'
    publish(checkpoint, target, '--image-tower')
    assert all(name.startswith('image_encoder.') for name in read_state_dict(target))
    tower = MODELS.build(tiny_model_cfg()).image_encoder
    report = load_image_tower(tower, target)
    assert not report.missing
    torch.testing.assert_close(tower.state_dict(), model.image_encoder.state_dict(), rtol=0, atol=0)


def test_mistakes_are_named(publish, checkpoint, capsys):
    folder = checkpoint.parent
    write_checkpoint(folder / 'other.pth', {'state_dict': {'backbone.weight': torch.ones(1)}, 'meta': {}})
    write_checkpoint(folder / 'broken.pth', {'state_dict': {'weight': torch.ones(1000)}, 'meta': {}})
    os.truncate(folder / 'broken.pth', 3000)
    for arguments, message in [
        ((checkpoint, folder / 'model.pth'), 'must end in .safetensors'),
        ((folder / 'broken.pth', folder / 'a.safetensors'), 'do not match their checksum'),
        ((folder / 'other.pth', folder / 'a.safetensors', '--image-tower'), 'no weights image_encoder.*'),
    ]:
        with pytest.raises(SystemExit):
            publish(*arguments)
        assert message in capsys.readouterr().err
    assert not (folder / 'a.safetensors').exists()
