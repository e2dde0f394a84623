import pytest
import tiny_models
import torch
from torch.nn import functional as F

from mmmaskclip.models.backbones import CLIPVisionTransformer, gather_tokens
from mmmaskclip.models.losses import CodewordLoss, FeatureRegressionLoss
from mmmaskclip.models.objectives import MaskedSelfDistillation
from mmmaskclip.models.objectives.views import BatchViews
from mmmaskclip.registry import MODELS


@pytest.fixture
def build(tiny_model_cfg):
    def build(objective, **others):
        model = MODELS.build(tiny_model_cfg(dict(distillation=objective, **others)))
        model.init_weights()
        return tiny_models.move_teachers(model)

    return build


def _masks(model, batch):
    return BatchViews(model, batch).mask(model.objectives['distillation'].mask)


def test_v1_is_equation_6(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('v1'))
    batch = model.data_preprocessor(random_batch(3))
    mask = _masks(model, batch)
    student = model.image_encoder.encode(model.image_encoder.embed(batch['image'])[0], mask.visible)
    predicted = model.objectives['distillation'].decoder(student, mask.visible)
    target = model.teacher.module.features(batch['image']).patches
    expected = FeatureRegressionLoss()(gather_tokens(predicted, mask.masked), gather_tokens(target, mask.masked))
    torch.testing.assert_close(model(mode='loss', **batch)['distillation_loss'], expected)


def test_cvpr_is_codeword_cross_entropy_with_the_heads_copy(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('cvpr', weight=0.05)).eval()
    batch = model.data_preprocessor(random_batch(3))
    objective, mask = model.objectives['distillation'], _masks(model, batch)
    student = model.image_encoder.encode(model.image_encoder.embed(batch['image'])[0], mask.visible)
    predicted = gather_tokens(objective.decoder(student, mask.visible), mask.masked)
    target = gather_tokens(model.teacher.module.features(batch['image']).patches, mask.masked)
    expected = CodewordLoss(24)(objective.head(predicted), objective.target_head(target))
    torch.testing.assert_close(model(mode='loss', **batch)['distillation_loss'], 0.05 * expected)


def test_spread_of_prediction_and_target_is_logged(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('v1', loss_on='all'))
    batch = model.data_preprocessor(random_batch(3))
    mask = _masks(model, batch)
    model(mode='loss', **batch)
    logged = model.objectives['distillation'].logged()
    student = model.image_encoder.encode(model.image_encoder.embed(batch['image'])[0], mask.visible)
    predicted = model.objectives['distillation'].decoder(student, mask.visible).detach().numpy()
    target = model.teacher.module.features(batch['image']).patches.detach().numpy()
    for name, features in (('prediction_std', predicted), ('target_std', target)):
        assert float(logged[name]) == pytest.approx(features.reshape(-1, features.shape[-1]).std(0).mean(), rel=1e-4)


def test_loss_on_all_patches(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('v1', loss_on='all'))
    batch = model.data_preprocessor(random_batch(3))
    mask = _masks(model, batch)
    student = model.image_encoder.encode(model.image_encoder.embed(batch['image'])[0], mask.visible)
    predicted = model.objectives['distillation'].decoder(student, mask.visible)
    target = model.teacher.module.features(batch['image']).patches
    torch.testing.assert_close(
        model(mode='loss', **batch)['distillation_loss'], FeatureRegressionLoss()(predicted, target)
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
    views = BatchViews(model, model.data_preprocessor(random_batch(2)))
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


@pytest.mark.parametrize('loss_on', ['masked', 'all'])
def test_the_loss_looks_at_a_random_share_of_the_patches(build, distillation_cfg, random_batch, loss_on):
    model = build(distillation_cfg('v1', loss_on=loss_on, loss_share=0.5))
    batch = model.data_preprocessor(random_batch(4))
    views = BatchViews(model, batch)
    mask, objective = views.mask(model.objectives['distillation'].mask), model.objectives['distillation']
    queries, others = objective._queries(views, mask), BatchViews(model, {**batch, 'seed': batch['seed'] + 1})
    among = mask.masked if loss_on == 'masked' else torch.cat((mask.masked, mask.visible), dim=1)
    assert queries.shape == (4, round(0.5 * among.shape[1]))
    for chosen, candidates in zip(queries.tolist(), among.tolist(), strict=True):
        assert len(set(chosen)) == len(chosen)
        assert set(chosen) <= set(candidates)
    assert not torch.equal(objective._queries(others, mask), queries)
    predicted = objective.decoder(views.visible_features(mask.visible), mask.visible)
    expected = FeatureRegressionLoss()(
        *(gather_tokens(part, queries) for part in (predicted, objective._target(views)))
    )
    torch.testing.assert_close(model(mode='loss', **batch)['distillation_loss'], expected)


def test_a_share_of_the_images_is_distilled_and_all_are_contrasted(build, distillation_cfg, random_batch):
    options = dict(target='shared', loss_on='all')
    contrast = dict(contrast=dict(type='ImageTextContrast'))
    models = [build(distillation_cfg('cvpr', **options, image_share=share), **contrast) for share in (0.5, 1.0)]
    models[1].load_state_dict(models[0].state_dict())
    batch = models[0].data_preprocessor(random_batch(4))
    part = models[0](mode='loss', **batch)
    first = models[1](mode='loss', **{name: value[:2] for name, value in batch.items()})
    torch.testing.assert_close(part['distillation_loss'], first['distillation_loss'])
    torch.testing.assert_close(part['contrast_loss'], models[1](mode='loss', **batch)['contrast_loss'])
    assert not models[0].objectives['distillation'].per_sample


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(loss_share=0.0), 'loss_share=0.0: it is a share'),
        (dict(target='shared', image_share=1.5), 'image_share=1.5: it is a share'),
        (dict(image_share=0.5), "image_share=0.5 with target='ema', whose pass over all images"),
    ],
)
def test_shares_that_cannot_be_are_refused(build, distillation_cfg, options, message):
    with pytest.raises(ValueError, match=message):
        build(distillation_cfg('v1', **options))


@pytest.mark.parametrize(('argument', 'value'), [('target', 'teacher'), ('loss_on', 'visible')])
def test_unknown_options(distillation_cfg, argument, value):
    with pytest.raises(ValueError, match=f"{argument}='{value}'"):
        MaskedSelfDistillation(**{k: v for k, v in distillation_cfg('v1', **{argument: value}).items() if k != 'type'})


def _scaled(batch, part=slice(None)):
    return {name: value[part] for name, value in batch.items()}


@pytest.mark.parametrize('form', ['v1', 'cvpr'])
@pytest.mark.parametrize('loss_on', ['masked', 'all'])
def test_accumulation_gives_the_gradients_of_one_batch(build, distillation_cfg, random_batch, form, loss_on):
    model = build(distillation_cfg(form, target='shared', loss_on=loss_on))
    batch, gradients = model.data_preprocessor(random_batch(4)), []
    for parts in ([slice(0, 4)], [slice(0, 2), slice(2, 4)]):
        model.zero_grad()
        for part in parts:
            (model(mode='loss', **_scaled(batch, part))['distillation_loss'] / len(parts)).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('form', ['v1', 'cvpr'])
@pytest.mark.parametrize('loss_on', ['masked', 'all'])
def test_bf16_is_near_float32_and_its_loss_is_float32(build, distillation_cfg, random_batch, form, loss_on):
    model = build(distillation_cfg(form, loss_on=loss_on)).eval()
    batch = model.data_preprocessor(random_batch(2))
    expected = model(mode='loss', **batch)['distillation_loss']
    with torch.autocast('cpu', torch.bfloat16):
        loss = model(mode='loss', **batch)['distillation_loss']
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0.05, atol=0)
    loss.backward()


def test_one_image_and_equal_captions(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('cvpr'), contrast=dict(type='ImageTextContrast')).eval()
    batch = model.data_preprocessor(random_batch(3))
    alike = dict(batch, tokens=batch['tokens'][:1].expand(3, -1))
    expected, losses = model(mode='loss', **batch), model(mode='loss', **alike)
    torch.testing.assert_close(losses['distillation_loss'], expected['distillation_loss'])
    assert losses['contrast_loss'].isfinite()
    assert model(mode='loss', **_scaled(batch, slice(0, 1)))['distillation_loss'].isfinite()


def test_before_its_start_it_computes_and_changes_nothing(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('cvpr', start_fraction=0.5), contrast=dict(type='ImageTextContrast'))
    batch, objective = model.data_preprocessor(random_batch(2)), model.objectives['distillation']
    passes = []
    for tower in (model.image_encoder, model.teacher.module):
        tower.layers[0].register_forward_hook(lambda *_: passes.append(1))
    model.set_progress(0.49)
    losses = model(mode='loss', **batch)
    sum(losses.values()).backward()
    model.after_optimizer_step()
    assert list(losses) == ['contrast_loss']
    assert len(passes) == 1
    assert not objective.loss.center.any()
    assert all(p.grad is None for p in objective.parameters())
    model.set_progress(0.5)
    losses = model(mode='loss', **batch)
    model.after_optimizer_step()
    assert losses['distillation_loss'] > 0
    assert objective.loss.center.isfinite().all()
    assert objective.loss.center.any()


def test_smaller_teacher_images(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('v1', teacher_image_size=16))
    batch = model.data_preprocessor(random_batch(3))
    mask = _masks(model, batch)
    student = model.image_encoder.encode(model.image_encoder.embed(batch['image'])[0], mask.visible)
    predicted = model.objectives['distillation'].decoder(student, mask.visible)
    small = F.interpolate(batch['image'], (16, 16), mode='bilinear', antialias=True)
    target = model.teacher.module.features(small).patches
    assert target.shape[1] == 4
    target = F.interpolate(target.transpose(1, 2).reshape(3, 32, 2, 2), (4, 4), mode='bilinear')
    target = target.flatten(2).transpose(1, 2)
    expected = FeatureRegressionLoss()(gather_tokens(predicted, mask.masked), gather_tokens(target, mask.masked))
    loss = model(mode='loss', **batch)['distillation_loss']
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.fixture
def frozen_cfg(tiny_model_cfg, tmp_path):
    """Config of the teacher for ``target='frozen'``, with the checkpoint of a first stage, and that stage's model."""
    first = MODELS.build(tiny_model_cfg())
    first.init_weights()
    torch.save(dict(state_dict=first.state_dict(), meta=dict(epoch=1)), tmp_path / 'first.pth')
    return dict(encoder=tiny_model_cfg()['image_encoder'], checkpoint=str(tmp_path / 'first.pth')), first


def test_frozen_target_is_the_first_stages_tower(build, distillation_cfg, random_batch, frozen_cfg):
    frozen, first = frozen_cfg
    model = build(distillation_cfg('v1', target='frozen', frozen=frozen))
    assert not hasattr(model, 'teacher')
    batch = model.data_preprocessor(random_batch(3))
    mask = _masks(model, batch)
    student = model.image_encoder.encode(model.image_encoder.embed(batch['image'])[0], mask.visible)
    predicted = model.objectives['distillation'].decoder(student, mask.visible)
    target = first.image_encoder.features(batch['image']).patches
    expected = FeatureRegressionLoss()(gather_tokens(predicted, mask.masked), gather_tokens(target, mask.masked))
    torch.testing.assert_close(model(mode='loss', **batch)['distillation_loss'], expected)


def test_frozen_target_never_moves_or_drops_anything(build, distillation_cfg, random_batch, frozen_cfg):
    frozen, _ = frozen_cfg
    frozen['encoder'] = dict(frozen['encoder'], drop_rate=0.5, drop_path_rate=0.5)
    model = build(distillation_cfg('cvpr', target='frozen', frozen=frozen)).train()
    encoder = model.objectives['distillation'].frozen.encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(mode='loss', **model.data_preprocessor(random_batch(2)))['distillation_loss'].backward()
    optimizer.step()
    model.after_optimizer_step()
    assert all(p.grad is None for p in encoder.parameters())
    torch.testing.assert_close(encoder.state_dict(), before, rtol=0, atol=0)
    assert all(p.grad is not None for p in model.image_encoder.parameters())


def test_teacher_with_another_patch_grid(build, distillation_cfg, random_batch, tiny_model_cfg, tmp_path):
    cfg = tiny_model_cfg()
    cfg['image_encoder']['patch_size'] = 16
    torch.save(MODELS.build(cfg).state_dict(), tmp_path / 'first.pth')
    frozen = dict(encoder=cfg['image_encoder'], checkpoint=str(tmp_path / 'first.pth'))
    model = build(distillation_cfg('v1', target='frozen', frozen=frozen))
    assert model(mode='loss', **model.data_preprocessor(random_batch(2)))['distillation_loss'].isfinite()


def test_teacher_of_another_width_is_named(build, distillation_cfg, random_batch, tiny_model_cfg, tmp_path):
    cfg = tiny_model_cfg()
    cfg['image_encoder']['arch']['embed_dims'] = 48
    cfg['image_projection']['in_channels'] = 48
    torch.save(MODELS.build(cfg).state_dict(), tmp_path / 'first.pth')
    frozen = dict(encoder=cfg['image_encoder'], checkpoint=str(tmp_path / 'first.pth'))
    model = build(distillation_cfg('v1', target='frozen', frozen=frozen))
    with pytest.raises(ValueError, match='the target is 48 wide, the prediction 32'):
        model(mode='loss', **model.data_preprocessor(random_batch(2)))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(target='frozen'), "target='frozen' with frozen=None"),
        (dict(frozen=dict(encoder={})), "target='ema' with frozen="),
        (dict(target='shared', teacher_image_size=16), "teacher_image_size=16 with target='shared'"),
        (dict(start_fraction=1.0), 'start_fraction=1.0'),
    ],
)
def test_contradicting_options(distillation_cfg, options, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(distillation_cfg('v1', **options))


@pytest.mark.parametrize('form', ['v1', 'cvpr'])
def test_images_at_once_give_loss_gradients_and_centre_of_all(build, distillation_cfg, random_batch, form):
    """5 images in chunks of 2 leave a rest; the loss is scaled, as by a loss scale."""
    contrast = dict(contrast=dict(type='ImageTextContrast'))
    whole = build(distillation_cfg(form), **contrast)
    chunked = build(distillation_cfg(form, images_at_once=2), **contrast)
    chunked.load_state_dict(whole.state_dict())
    batch = whole.data_preprocessor(random_batch(5))
    results = []
    for model in (whole, chunked):
        losses = model(mode='loss', **batch)
        (8 * sum(losses.values())).backward()
        model.after_optimizer_step()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append((losses, gradients, dict(model.named_buffers())))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(chunked(mode='loss', **batch), whole(mode='loss', **batch))


def test_images_at_once_keep_gradients_instead_of_activations(build, distillation_cfg, random_batch):
    model = build(distillation_cfg('v1', images_at_once=1))
    views = BatchViews(model, model.data_preprocessor(random_batch(3)))
    loss = model.objectives['distillation'](views)['loss']
    kept = {tuple(tensor.shape) for tensor in loss.grad_fn.saved_tensors}
    assert kept <= {tuple(views.patches().shape), *(tuple(p.shape) for p in model.parameters())}
