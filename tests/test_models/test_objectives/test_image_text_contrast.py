import math

import pytest
import torch

from mmmaskclip.contracts import Pairs
from mmmaskclip.models.losses import InfoNCELoss, SigmoidLoss
from mmmaskclip.models.objectives import ImageTextContrast
from mmmaskclip.models.objectives.views import BatchViews
from mmmaskclip.registry import MODELS


def test_loss_is_info_nce_of_the_normalized_embeddings(tiny_model_cfg, random_batch):
    model = MODELS.build(tiny_model_cfg())
    model.init_weights()
    batch = model.data_preprocessor(random_batch(4))
    image, text = model.encode_image(batch['image']), model.encode_text(batch['tokens'])
    expected = InfoNCELoss()(Pairs(image, text, image, text), torch.tensor(1 / 0.07))
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
        views = BatchViews(model, batch)
        assert model.objectives['contrast'](views)['loss'].dtype == torch.float32
        assert views.image_embedding().dtype == views.text_embedding().dtype == torch.float32


FORMS = {
    'info_nce': dict(),
    'sigmoid': dict(loss=dict(type='SigmoidLoss'), init_temperature=0.1),
    'unicl': dict(loss=dict(type='UniCLLoss')),
}


@pytest.fixture(params=FORMS)
def contrast(request, tiny_model_cfg):
    model = MODELS.build(tiny_model_cfg(dict(contrast=dict(type='ImageTextContrast', **FORMS[request.param]))))
    model.init_weights()
    return model


def _labelled(model, batch, label=-1):
    return model.data_preprocessor(batch | {'label': torch.full((len(batch['image']),), label)})


def test_with_any_loss_every_parameter_learns(contrast, random_batch):
    contrast(mode='loss', **_labelled(contrast, random_batch(4)))['contrast_loss'].backward()
    assert not [name for name, p in contrast.named_parameters() if p.grad is None or not p.grad.abs().sum()]


@pytest.mark.parametrize('size', [1, 2])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_smallest_batches_and_captions_all_alike(contrast, random_batch, size, dtype):
    batch = random_batch(size)
    batch['tokens'] = batch['tokens'][:1].expand(size, -1)
    with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        loss = contrast(mode='loss', **_labelled(contrast, batch, label=3))['contrast_loss']
    loss.backward()
    assert loss.dtype == torch.float32
    gradients = [p.grad for p in contrast.parameters() if p.grad is not None]
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    if size == 2 and not isinstance(contrast.objectives['contrast'].loss, SigmoidLoss):
        assert loss.item() >= math.log(2) / 2  # the image cannot tell two equal captions apart


def test_one_class_is_one_target(tiny_model_cfg, random_batch):
    model = MODELS.build(tiny_model_cfg(dict(contrast=dict(type='ImageTextContrast', **FORMS['unicl']))))
    model.init_weights()
    pairs = model(mode='loss', **_labelled(model, random_batch(4)))['contrast_loss']
    views = BatchViews(model, _labelled(model, random_batch(4)))
    image, text = views.image_embedding(), views.text_embedding()
    torch.testing.assert_close(pairs, InfoNCELoss()(Pairs(image, text, image, text), torch.tensor(1 / 0.07)))
    assert not torch.allclose(model(mode='loss', **_labelled(model, random_batch(4), 0))['contrast_loss'], pairs)


def test_missing_label_is_explained(tiny_model_cfg, random_batch):
    model = MODELS.build(tiny_model_cfg(dict(contrast=dict(type='ImageTextContrast', **FORMS['unicl']))))
    with pytest.raises(KeyError, match="needs 'label'"):
        model(mode='loss', **model.data_preprocessor(random_batch(2)))


def test_sigmoid_needs_the_gradient_of_the_gather():
    with pytest.raises(ValueError, match='gather_with_grad=False: SigmoidLoss sees captions only through the gather'):
        ImageTextContrast(loss=dict(type='SigmoidLoss'), gather_with_grad=False)


def test_halves_are_not_the_whole_because_the_negatives_are_fewer(contrast, random_batch):
    batch = _labelled(contrast, random_batch(4))
    whole = contrast(mode='loss', **batch)['contrast_loss']
    halves = [
        contrast(mode='loss', **{name: value[part] for name, value in batch.items()})['contrast_loss']
        for part in (slice(0, 2), slice(2, 4))
    ]
    assert sum(halves) / 2 < whole
