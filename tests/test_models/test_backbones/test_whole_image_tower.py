import pytest
import torch

from mmmaskclip.models.backbones import WholeImageTower
from mmmaskclip.registry import MODELS

RESNET = dict(type='mmpretrain.ResNet', depth=18, base_channels=4, stem_channels=4)
BACKBONES = {
    'mmpretrain': (RESNET, 32),
    'torchvision': (dict(type='torchvision.models.squeezenet1_1', num_classes=8), 8),
    'timm': (dict(type='timm.create_model', model_name='resnet10t', num_classes=0), 512),
}


def _model(tiny_model_cfg, backbone, width, **objectives):
    cfg = tiny_model_cfg(objectives or None)
    cfg['image_encoder'] = dict(type='WholeImageTower', backbone=backbone)
    cfg['image_projection']['in_channels'] = width
    return cfg


@pytest.mark.parametrize('name', BACKBONES)
def test_backbones_of_other_packages_pretrain(name, tiny_model_cfg, random_batch):
    if name == 'timm':
        pytest.importorskip('timm')
    model = MODELS.build(_model(tiny_model_cfg, *BACKBONES[name]))
    batch = random_batch(2)
    batch['image'] = batch['image'].repeat_interleave(2, 2).repeat_interleave(2, 3)
    loss = model(mode='loss', **model.data_preprocessor(batch))['contrast_loss']
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for name, p in model.image_encoder.named_parameters())
    model.eval()
    assert model(mode='predict', **model.data_preprocessor(batch))[0]['image_embed'].shape == (16,)
    with pytest.raises(AttributeError, match=r'WholeImageTower has no dense.*val_dataloader=None'):
        model.encode_dense(model.data_preprocessor(batch)['image'])


def test_masked_methods_name_the_contract(tiny_model_cfg, distillation_cfg):
    with pytest.raises(ValueError, match=r'WholeImageTower has no embed, positions, encode, which distillation needs'):
        MODELS.build(_model(tiny_model_cfg, RESNET, 32, distillation=distillation_cfg('v1')))


def test_a_bare_backbone_is_told_of_the_adapter(tiny_model_cfg):
    cfg = tiny_model_cfg()
    cfg['image_encoder'] = RESNET
    with pytest.raises(ValueError, match=r"ResNet has no features.*wrap the backbone.*type='WholeImageTower'"):
        MODELS.build(cfg)


def test_features_of_maps_tokens_and_vectors():
    tower = WholeImageTower(dict(type='torch.nn.Identity'))
    image = torch.randn(2, 3, 4, 5)
    features = tower.features([image])
    torch.testing.assert_close(features.patches[:, 7], image[:, :, 1, 2])
    torch.testing.assert_close(features.cls, image.mean((2, 3)))
    assert tower.features(torch.randn(2, 6, 3)).patches.shape == (2, 6, 3)
    assert tower.features(torch.randn(2, 3)).patches.shape == (2, 1, 3)
    with pytest.raises(ValueError, match=r'Identity returns \(2,\)'):
        tower.features(torch.randn(2))
