import math

import pytest
import torch

from mmmaskclip.models.losses import info_nce
from mmmaskclip.models.objectives import ImageTextContrast
from mmmaskclip.models.views import Views
from mmmaskclip.registry import MODELS


def test_loss_is_info_nce_of_the_normalized_embeddings(tiny_model_cfg, random_batch):
    model = MODELS.build(tiny_model_cfg())
    model.init_weights()
    batch = model.data_preprocessor(random_batch(4))
    image, text = model.encode_image(batch['image']), model.encode_text(batch['tokens'])
    expected = sum(info_nce(image, text, image, text, torch.tensor(1 / 0.07))) / 2
    torch.testing.assert_close(model(mode='loss', **batch)['contrast_loss'], expected)


def test_every_parameter_of_clip_learns(tiny_model_cfg, random_batch):
    model = MODELS.build(tiny_model_cfg())
    model.init_weights()
    model(mode='loss', **model.data_preprocessor(random_batch(4)))['contrast_loss'].backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    assert not without


def test_temperature_starts_at_its_value_and_is_clamped():
    objective = ImageTextContrast()
    assert objective.logged()['temperature'].item() == pytest.approx(0.07)
    for value, expected in ((5.0, math.log(100)), (-1.0, 0.0), (3.0, 3.0)):
        objective.logit_scale.data.fill_(value)
        objective.after_optimizer_step()
        assert objective.logit_scale.item() == pytest.approx(expected)


def test_weight_ramp_follows_the_run(tiny_model_cfg, random_batch):
    cfg = dict(contrast=dict(type='ImageTextContrast', weight=dict(begin=1.0, end=0.0)))
    model = MODELS.build(tiny_model_cfg(cfg))
    model.init_weights()
    batch = model.data_preprocessor(random_batch(4))
    full = model(mode='loss', **batch)['contrast_loss']
    model.set_progress(0.75)
    torch.testing.assert_close(model(mode='loss', **batch)['contrast_loss'], 0.25 * full)


def test_logits_stay_float32_in_bfloat16_training(tiny_model_cfg, random_batch):
    model = MODELS.build(tiny_model_cfg())
    model.init_weights()
    batch = model.data_preprocessor(random_batch(4))
    with torch.autocast('cpu', torch.bfloat16):
        views = Views(model, batch)
        assert model.objectives['contrast'](views)['loss'].dtype == torch.float32
        assert views.image_embedding().dtype == views.text_embedding().dtype == torch.float32
