from pathlib import Path

import pytest
from mmengine.config import Config

from mmmaskclip.analysis import first_step

CONFIG = Path(__file__).parents[2] / 'configs/maskclip/vitxs16_scenes_v1.py'


def _check(**options):
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(options)
    first_step.check_first_step(cfg)


def test_a_config_that_fits():
    _check()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'model.image_projection.in_channels': 64}, r'model\.image_projection\.projection, a Linear\(in_features=64'),
        ({'model.text_projection.embed_dims': 24}, 'give both projections the same embed_dims'),
        ({'train_dataloader.dataset.views.image.0.size': 96}, r'images have 36 patches, but decoder\.num_patches=16'),
        ({'model.objectives.contrast.views': ('image_2',)}, "needs 'image_2', but the batch has only"),
    ],
)
def test_what_does_not_fit_is_named_before_any_data_is_read(options, message):
    with pytest.raises((ValueError, KeyError), match=message):
        _check(**options)


def test_a_backbone_that_needs_values_while_it_is_built_is_checked_too():
    clip = Config.fromfile(CONFIG.parents[1] / 'clip/vitxs16_scenes.py')
    resnet = dict(type='mmpretrain.ResNet', depth=18)
    clip.model.image_encoder = dict(type='WholeImageTower', backbone=resnet)
    with pytest.raises(ValueError, match=r'a Linear\(in_features=128.* does not fit its input of shape \(2, 512\)'):
        first_step.check_first_step(clip)
    clip.model.image_projection.in_channels = 512
    first_step.check_first_step(clip)
    clip.model.image_encoder = resnet
    with pytest.raises(ValueError, match="wrap the backbone, image_encoder=dict\\(type='WholeImageTower'"):
        first_step.check_first_step(clip)


def test_positions_for_another_size_are_said(monkeypatch):
    said = []
    monkeypatch.setattr(first_step, 'print_log', lambda message, **kwargs: said.append(message))
    _check(**{'model.image_encoder.img_size': 96})
    assert 'img_size=(96, 96), but the training images are (64, 64)' in said[0]
