import pytest
import torch
from torch.nn import functional as F

from mmmaskclip.contracts import Pairs
from mmmaskclip.models.backbones import CLIPVisionTransformer
from mmmaskclip.models.losses import InfoNCELoss
from mmmaskclip.models.objectives.views import BatchViews
from mmmaskclip.registry import MODELS


@pytest.fixture
def model(tiny_model_cfg):
    model = MODELS.build(tiny_model_cfg(dict(contrast=dict(type='ImageTextContrast', views=('image', 'image_2')))))
    model.init_weights()
    return model


@pytest.fixture
def batch(model, random_batch):
    batch = model.data_preprocessor(random_batch(3))
    return {**batch, 'image_2': torch.randn(3, 3, 32, 32), 'local': torch.randn(3, 2, 3, 16, 16)}


def test_views_encoded_together_equal_each_alone_and_cost_one_pass(model, batch, monkeypatch):
    alone = [BatchViews(model, batch).image_features(name) for name in ('image', 'image_2')]
    passes = []
    encode = CLIPVisionTransformer.encode
    monkeypatch.setattr(CLIPVisionTransformer, 'encode', lambda *args: passes.append(1) or encode(*args))
    views = BatchViews(model, batch)
    views.encode_together(('image', 'image_2'))
    for name, expected in zip(('image', 'image_2'), alone, strict=True):
        torch.testing.assert_close(views.image_features(name).patches, expected.patches)
        torch.testing.assert_close(views.image_features(name).cls, expected.cls)
    assert len(passes) == 1


def test_what_is_already_encoded_is_not_encoded_again(model, batch):
    views = BatchViews(model, batch)
    first = views.image_features('image')
    views.encode_together(('image', 'image_2'))
    assert views.image_features('image') is first


def test_crops_of_an_image_follow_each_other(model, batch):
    views = BatchViews(model, batch)
    embedding = views.image_embedding('local')
    assert views.grid('local') == (2, 2)
    assert embedding.shape == (6, 16)
    torch.testing.assert_close(embedding[3:4], model.encode_image(batch['local'][1, 1:2]))


def test_every_view_is_contrasted_with_the_captions(model, batch):
    text = model.encode_text(batch['tokens'])
    each = []
    for name in ('image', 'image_2'):
        image = F.normalize(model.image_projection(model.image_encoder.features(batch[name])), dim=-1)
        each.append(InfoNCELoss()(Pairs(image, text, image, text), torch.tensor(1 / 0.07)))
    torch.testing.assert_close(model(mode='loss', **batch)['contrast_loss'], sum(each) / 2)


def test_a_view_that_the_data_lacks_is_named(model, batch):
    del batch['image_2']
    with pytest.raises(KeyError, match="needs 'image_2', but the batch has only"):
        model(mode='loss', **batch)
