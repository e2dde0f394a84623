import pytest
import torch

from mmmaskclip.models.objectives.frozen_encoder import FrozenEncoder
from mmmaskclip.registry import MODELS


@pytest.fixture
def encoder(tiny_model_cfg):
    return tiny_model_cfg()['image_encoder']


def test_no_checkpoint_is_explained_when_weights_are_needed(encoder):
    teacher = FrozenEncoder(encoder)
    with pytest.raises(ValueError, match='set frozen.checkpoint to a checkpoint of the first stage'):
        teacher.init_weights()


def test_missing_file_is_named(encoder):
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        FrozenEncoder(encoder, 'gone.pth').init_weights()


def test_checkpoint_without_an_image_tower_is_named(encoder, tmp_path):
    torch.save(dict(backbone=torch.zeros(1)), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match="no weights under 'image_encoder.'"):
        FrozenEncoder(encoder, str(tmp_path / 'other.pth')).init_weights()


def test_checkpoint_of_another_tower_is_named(encoder, tiny_model_cfg, tmp_path):
    torch.save(MODELS.build(tiny_model_cfg()).state_dict(), tmp_path / 'first.pth')
    encoder['arch'] = dict(encoder['arch'], num_layers=3)
    with pytest.raises(ValueError, match=r'does not fit frozen.encoder: .*layers.2'):
        FrozenEncoder(encoder, str(tmp_path / 'first.pth')).init_weights()
