from functools import partial

import pytest
import torch

from mmmaskclip.models.backbones import CLIPVisionTransformer, gather_tokens
from mmmaskclip.models.losses import codeword_cross_entropy, feature_regression
from mmmaskclip.models.noise import IMAGE_MASK_STREAM
from mmmaskclip.models.objectives import MaskedSelfDistillation
from mmmaskclip.models.views import Views
from mmmaskclip.registry import MODELS


@pytest.fixture
def build(tiny_model_cfg):
    def build(objective, **others):
        model = MODELS.build(tiny_model_cfg(dict(distillation=objective, **others)))
        model.init_weights()
        with torch.no_grad():  # teacher and student must differ, or a swap would not show
            for copy in model.momentum_copies:
                for parameter in copy.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model

    return build


def _masks(model, batch):
    views = Views(model, batch)
    return model.objectives['distillation'].mask(partial(views.noise, stream=IMAGE_MASK_STREAM), views.grid())


def test_v1_is_equation_6(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('v1'))
    batch = model.data_preprocessor(random_batch(3))
    mask = _masks(model, batch)
    student = model.image_encoder.encode(model.image_encoder.embed(batch['image'])[0], mask.visible)
    predicted = model.objectives['distillation'].decoder(student, mask.visible)
    target = model.teacher.module.features(batch['image']).patches
    expected = feature_regression(gather_tokens(predicted, mask.masked), gather_tokens(target, mask.masked), beta=2.0)
    torch.testing.assert_close(model(mode='loss', **batch)['distillation_loss'], expected)


def test_cvpr_is_codeword_cross_entropy_with_the_heads_copy(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('cvpr', weight=0.05)).eval()
    batch = model.data_preprocessor(random_batch(3))
    objective, mask = model.objectives['distillation'], _masks(model, batch)
    student = model.image_encoder.encode(model.image_encoder.embed(batch['image'])[0], mask.visible)
    predicted = gather_tokens(objective.decoder(student, mask.visible), mask.masked)
    target = gather_tokens(model.teacher.module.features(batch['image']).patches, mask.masked)
    expected = codeword_cross_entropy(
        objective.head(predicted), objective.target_head(target), torch.zeros(24), 0.1, 0.04
    )
    torch.testing.assert_close(model(mode='loss', **batch)['distillation_loss'], 0.05 * expected)


def test_loss_on_all_patches(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('v1', loss_on='all'))
    batch = model.data_preprocessor(random_batch(3))
    mask = _masks(model, batch)
    student = model.image_encoder.encode(model.image_encoder.embed(batch['image'])[0], mask.visible)
    predicted = model.objectives['distillation'].decoder(student, mask.visible)
    target = model.teacher.module.features(batch['image']).patches
    torch.testing.assert_close(
        model(mode='loss', **batch)['distillation_loss'], feature_regression(predicted, target, beta=2.0)
    )


@pytest.mark.parametrize('form', ['v1', 'cvpr'])
@pytest.mark.parametrize('target', ['ema', 'shared'])
def test_student_learns_and_targets_do_not(build, distillation_cfg, random_batch, form, target):
    model = build(distillation_cfg(form, target=target), contrast=dict(type='ImageTextContrast'))
    batch = model.data_preprocessor(random_batch(3))
    model(mode='loss', **batch)['distillation_loss'].backward()
    grads = {name: p.grad is not None and bool(p.grad.abs().sum()) for name, p in model.named_parameters()}
    assert hasattr(model, 'teacher') == (target == 'ema')
    assert not any(grads[name] for name in grads if name.startswith('teacher') or 'target_head' in name)
    assert not any(grads[name] for name in grads if name.startswith(('text_', 'image_projection')))
    own = [name for name in grads if name.startswith(('image_encoder', 'objectives.distillation'))]
    assert all(grads[name] for name in own if 'target_head' not in name and not name.endswith('mlp.4.bias'))


def test_shared_target_cuts_the_graph_of_the_full_pass(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('v1', target='shared'))
    views = Views(model, model.data_preprocessor(random_batch(2)))
    loss = model.objectives['distillation'](views)['loss']
    full = views.image_features().patches
    assert torch.autograd.grad(loss, full, allow_unused=True)[0] is None


def test_towers_run_once_each(build, distillation_cfg, random_batch, monkeypatch):
    model = build(distillation_cfg('v1'), contrast=dict(type='ImageTextContrast'))
    calls = []
    for method in ('embed', 'encode'):
        original = getattr(CLIPVisionTransformer, method)

        def counted(tower, *args, _original=original, _method=method):
            calls.append(('teacher' if tower is model.teacher.module else 'student', _method))
            return _original(tower, *args)

        monkeypatch.setattr(CLIPVisionTransformer, method, counted)
    model(mode='loss', **model.data_preprocessor(random_batch(2)))
    assert sorted(calls) == sorted(
        [
            ('student', 'embed'),
            ('student', 'encode'),
            ('student', 'encode'),
            ('teacher', 'embed'),
            ('teacher', 'encode'),
        ]
    )


def test_masks_depend_on_the_sample_not_on_the_batch(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('v1')).eval()
    batch = model.data_preprocessor(random_batch(4))
    losses = [
        model(mode='loss', **{name: value[part] for name, value in batch.items()})['distillation_loss']
        for part in (slice(None), slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(losses[0], (losses[1] + 3 * losses[2]) / 4)


def test_missing_seed_is_explained(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('v1'))
    batch = model.data_preprocessor(random_batch(2))
    del batch['seed']
    with pytest.raises(KeyError, match="needs 'seed', but the batch has only"):
        model(mode='loss', **batch)


def test_decoder_for_another_number_of_patches_is_named(build, distillation_cfg, random_batch):
    cfg = distillation_cfg('v1')
    cfg['decoder']['num_patches'] = 49
    model = build(cfg)
    with pytest.raises(ValueError, match='images have 16 patches, but decoder.num_patches=49'):
        model(mode='loss', **model.data_preprocessor(random_batch(2)))


@pytest.mark.parametrize(('argument', 'value'), [('target', 'teacher'), ('loss_on', 'visible')])
def test_unknown_options(distillation_cfg, argument, value):
    with pytest.raises(ValueError, match=f"{argument}='{value}'"):
        MaskedSelfDistillation(**{k: v for k, v in distillation_cfg('v1', **{argument: value}).items() if k != 'type'})
