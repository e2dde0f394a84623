import pytest
import tiny_models
import torch

from mmmaskclip.models.objectives import LocalToGlobalDistillation
from mmmaskclip.registry import MODELS

CROPS = 3


@pytest.fixture
def objective_cfg():
    head = dict(type='PrototypeHead', in_channels=16, num_prototypes=24, hidden_channels=32, bottleneck_channels=8)
    loss = dict(type='CodewordLoss', num_prototypes=24)
    return dict(type='LocalToGlobalDistillation', head=head, loss=loss)


@pytest.fixture
def build(tiny_model_cfg, objective_cfg):
    def build(with_contrast=False, teacher_momentum=0.966, **kwargs):
        objectives = dict(silc=dict(objective_cfg, **kwargs))
        if with_contrast:
            objectives['contrast'] = dict(type='ImageTextContrast', views=('image', 'image_2'))
        torch.manual_seed(0)
        model = MODELS.build(dict(tiny_model_cfg(objectives), teacher_momentum=teacher_momentum))
        model.init_weights()
        return tiny_models.move_teachers(model)

    return build


@pytest.fixture
def batch(random_batch):
    def batch(size):
        generator = torch.Generator().manual_seed(1)
        data = random_batch(size)
        data['image_2'] = torch.randint(0, 256, (size, 3, 32, 32), generator=generator, dtype=torch.uint8)
        data['local'] = torch.randint(0, 256, (size, CROPS, 3, 16, 16), generator=generator, dtype=torch.uint8)
        return data

    return batch


def test_every_local_crop_predicts_every_global_view_of_its_image(build, batch):
    model = build(weight=0.5).eval()
    objective, data = model.objectives['silc'], model.data_preprocessor(batch(2))
    terms = []
    for image in range(2):
        for name in ('image', 'image_2'):
            features = model.teacher.module.features(data[name][image : image + 1])
            target = objective.target_head(model.teacher_projection(features)).whole()[0]
            for crop in range(CROPS):
                features = model.image_encoder.features(data['local'][image, crop : crop + 1])
                predicted = objective.head(model.image_projection(features)).whole()[0]
                terms.append(-((target / 0.04).softmax(0) * (predicted / 0.1).log_softmax(0)).sum())
    torch.testing.assert_close(model(mode='loss', **data)['silc_loss'], 0.5 * torch.stack(terms).mean())


def test_one_crop_per_image_may_come_without_its_dimension(build, batch):
    model = build(global_views=('image',)).eval()
    data = model.data_preprocessor(batch(2))
    data['local'] = data['local'][:, :1]
    expected = model(mode='loss', **data)['silc_loss']
    data['local'] = data['local'][:, 0]
    torch.testing.assert_close(model(mode='loss', **data)['silc_loss'], expected)


def test_several_local_views_are_one_set_of_crops(build, batch):
    model = build().eval()
    data = model.data_preprocessor(batch(2))
    expected = model(mode='loss', **data)['silc_loss']
    data['near'], data['far'] = data['local'][:, :1], data.pop('local')[:, 1:]
    model.objectives['silc'].local_views = ('near', 'far')
    torch.testing.assert_close(model(mode='loss', **data)['silc_loss'], expected)


@pytest.mark.parametrize('size', [1, 2])
def test_student_and_head_learn_and_targets_do_not(build, batch, size):
    model = build(with_contrast=True)
    data = model.data_preprocessor(batch(size))
    model(mode='loss', **data)['silc_loss'].backward()
    grads = {name: p.grad is not None and bool(p.grad.abs().sum()) for name, p in model.named_parameters()}
    assert not any(grads[name] for name in grads if name.startswith('teacher') or 'target_head' in name)
    assert not any(grads[name] for name in grads if name.startswith(('text_', 'objectives.contrast')))
    own = [name for name in grads if name.startswith(('image_', 'objectives.silc'))]
    assert all(grads[name] for name in own if 'target_head' not in name)


def test_global_views_get_no_gradient(build, batch):
    model = build()
    data = model.data_preprocessor(batch(2))
    for name in ('image', 'image_2', 'local'):
        data[name].requires_grad_()
    model(mode='loss', **data)['silc_loss'].backward()
    assert data['image'].grad is None
    assert data['image_2'].grad is None
    assert data['local'].grad.abs().sum() > 0


def test_captions_do_not_matter(build, batch):
    model = build(with_contrast=True).eval()
    data = model.data_preprocessor(batch(3))
    expected = model(mode='loss', **data)['silc_loss']
    data['tokens'] = data['tokens'][:1].expand(3, -1)
    losses = model(mode='loss', **data)
    torch.testing.assert_close(losses['silc_loss'], expected)
    assert losses['contrast_loss'].isfinite()


def test_bfloat16_gives_a_float32_loss_near_the_exact_one(build, batch):
    model = build().eval()
    data = model.data_preprocessor(batch(2))
    exact = model(mode='loss', **data)['silc_loss']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = model(mode='loss', **data)['silc_loss']
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0.05)


def test_accumulation_is_one_big_batch(build, batch):
    whole, parts, data = build(), build(), batch(4)
    whole(mode='loss', **whole.data_preprocessor(data))['silc_loss'].backward()
    for half in (slice(0, 2), slice(2, 4)):
        own = parts.data_preprocessor({name: value[half] for name, value in data.items()})
        (parts(mode='loss', **own)['silc_loss'] / 2).backward()
    for model in (whole, parts):
        model.after_optimizer_step()
    assert whole.objectives['silc'].loss.center.any()
    torch.testing.assert_close(parts.objectives['silc'].loss.center, whole.objectives['silc'].loss.center)
    for (name, one), other in zip(whole.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=lambda m, n=name: f'{n}: {m}')


@pytest.mark.parametrize(
    ('momentum', 'at_start', 'at_end'),
    [(0.966, 0.966, 0.966), (dict(begin=0.996, end=1.0, curve='cosine'), 0.996, 1.0)],
)
def test_teacher_projection_and_head_follow_with_the_pretrainers_momentum(build, momentum, at_start, at_end):
    for progress, expected in ((0.0, at_start), (1.0, at_end)):
        model = build(teacher_momentum=momentum)
        model.set_progress(progress)
        pairs = [
            (model.teacher.module.ln1.weight, model.image_encoder.ln1.weight),
            (model.teacher_projection.module.projection.weight, model.image_projection.projection.weight),
            (model.objectives['silc'].target_head.module.prototypes, model.objectives['silc'].head.prototypes),
        ]
        before = [copy.detach().clone() for copy, _ in pairs]
        model.after_optimizer_step()
        for (copy, source), old in zip(pairs, before, strict=True):
            torch.testing.assert_close(copy.detach(), expected * old + (1 - expected) * source.detach())


def test_missing_crops_are_explained(build, random_batch):
    model = build()
    with pytest.raises(KeyError, match="needs 'image_2', but the batch has only"):
        model(mode='loss', **model.data_preprocessor(random_batch(2)))


def test_no_views_are_refused(objective_cfg):
    parts = {name: value for name, value in objective_cfg.items() if name != 'type'}
    with pytest.raises(ValueError, match=r'local_views=\(\): name at least one'):
        LocalToGlobalDistillation(**parts, local_views=())
