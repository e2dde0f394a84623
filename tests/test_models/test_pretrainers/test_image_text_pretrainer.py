import pytest
import torch

from mmmaskclip.registry import MODELS


@pytest.fixture
def model(tiny_model_cfg, distillation_cfg):
    model = MODELS.build(
        tiny_model_cfg(dict(contrast=dict(type='ImageTextContrast'), distillation=distillation_cfg('cvpr')))
    )
    model.init_weights()
    return model


def test_images_are_normalized_and_masks_left_alone(model):
    batch = model.data_preprocessor(
        dict(
            image=torch.full((1, 3, 32, 32), 255, dtype=torch.uint8),
            crops=torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8),
            mask=torch.full((1, 32, 32), 3, dtype=torch.uint8),
            key=['a'],
        )
    )
    assert batch['image'].unique().tolist() == [1]
    assert batch['crops'].unique().tolist() == [-1]
    assert batch['mask'].dtype == torch.uint8
    assert batch['key'] == ['a']


def test_all_losses_are_summed(model, random_batch):
    losses = model(mode='loss', **model.data_preprocessor(random_batch(4)))
    total, _ = model.parse_losses(losses)
    assert set(losses) == {'contrast_loss', 'distillation_loss'}
    torch.testing.assert_close(total, losses['contrast_loss'] + losses['distillation_loss'])


@pytest.mark.parametrize('batch_size', [1, 2])
def test_smallest_batches_and_equal_captions_train(model, random_batch, batch_size):
    batch = model.data_preprocessor(random_batch(batch_size))
    batch['tokens'] = batch['tokens'][:1].expand(batch_size, -1)
    total, _ = model.parse_losses(model(mode='loss', **batch))
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_bfloat16_is_close_to_float32(model, random_batch):
    batch = model.data_preprocessor(random_batch(4))
    exact = model(mode='loss', **batch)
    with torch.autocast('cpu', torch.bfloat16):
        low = model(mode='loss', **batch)
    for name in exact:
        assert low[name].dtype == torch.float32
        torch.testing.assert_close(low[name], exact[name], rtol=0.03, atol=0)


def test_after_a_step_teacher_and_target_head_follow_with_the_ramped_momentum(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.set_progress(0.5)
    model.after_optimizer_step()
    after = model.state_dict()
    for copy, source in (
        ('teacher.module.cls_token', 'image_encoder.cls_token'),
        ('objectives.distillation.target_head.module.prototypes', 'objectives.distillation.head.prototypes'),
    ):
        torch.testing.assert_close(after[copy], 0.99945 * before[copy] + 0.00055 * before[source])
        torch.testing.assert_close(after[source], before[source])
    assert model.logged()['teacher_momentum'] == pytest.approx(0.99945)


def test_teacher_is_in_the_checkpoint_and_not_in_the_gradient(model):
    assert any(name.startswith('teacher.module.') for name in model.state_dict())
    assert not any(p.requires_grad for name, p in model.named_parameters() if name.startswith('teacher'))


def test_accumulation_has_the_masks_and_centre_of_one_big_batch(tiny_model_cfg, distillation_cfg, random_batch):
    gradients, centers = [], []
    for parts in ([slice(None)], [slice(0, 2), slice(2, 4)]):
        torch.manual_seed(1)
        model = MODELS.build(tiny_model_cfg(dict(distillation=distillation_cfg('cvpr'))))
        model.init_weights()
        batch = model.data_preprocessor(random_batch(4))
        for part in parts:
            losses = model(mode='loss', **{name: value[part] for name, value in batch.items()})
            (losses['distillation_loss'] / len(parts)).backward()
        model.after_optimizer_step()
        gradients.append(model.image_encoder.layers[0].attn.qkv.weight.grad)
        centers.append(model.objectives['distillation'].loss.center)
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(*centers)


@torch.no_grad()
def test_predict_gives_one_dict_per_image(model, random_batch):
    model.eval()
    batch = model.data_preprocessor(random_batch(3))
    tokens = torch.cat((batch['tokens'], batch['tokens'][:2]))
    mask = torch.zeros(3, 32, 32, dtype=torch.uint8)
    rows = model(
        mode='predict',
        image=batch['image'],
        tokens=tokens,
        num_captions=torch.tensor([1, 3, 1]),
        mask=mask,
        label=torch.tensor([4, 5, 6]),
        key=['a', 'b', 'c'],
    )
    assert [row['key'] for row in rows] == ['a', 'b', 'c']
    assert [int(row['label']) for row in rows] == [4, 5, 6]
    assert [len(row['text_embeds']) for row in rows] == [1, 3, 1]
    torch.testing.assert_close(torch.cat([row['text_embeds'] for row in rows]), model.encode_text(tokens))
    torch.testing.assert_close(torch.stack([row['image_embed'] for row in rows]), model.encode_image(batch['image']))


@torch.no_grad()
def test_dense_embeddings_keep_their_place(model):
    model.eval()
    images = torch.randn(1, 3, 32, 48)
    dense = model.encode_dense(images)
    assert dense.shape == (1, 16, 4, 6)
    features = model.image_encoder.features(images)
    row, column = 2, 5
    expected = torch.nn.functional.normalize(
        model.image_projection.dense(features.patches)[0, row * 6 + column], dim=-1
    )
    torch.testing.assert_close(dense[0, :, row, column], expected)


def test_unknown_mode(model, random_batch):
    with pytest.raises(ValueError, match="mode='train'"):
        model(mode='train', **model.data_preprocessor(random_batch(1)))


def test_logits_need_a_temperature(tiny_model_cfg, distillation_cfg):
    model = MODELS.build(tiny_model_cfg(dict(distillation=distillation_cfg())))
    with pytest.raises(AttributeError, match='learns a temperature'):
        model.logits(torch.zeros(1, 16), torch.zeros(1, 16))


def test_objective_that_is_switched_off_leaves_nothing(tiny_model_cfg, distillation_cfg):
    cfg = tiny_model_cfg(dict(contrast=dict(type='ImageTextContrast'), distillation=None))
    model = MODELS.build(cfg)
    assert list(model.objectives) == ['contrast']
    assert not hasattr(model, 'teacher')


def test_without_text_it_distils(tiny_model_cfg, distillation_cfg, random_batch):
    cfg = tiny_model_cfg(dict(distillation=distillation_cfg('v1')))
    cfg.update(image_projection=None, text_encoder=None, text_projection=None)
    model = MODELS.build(cfg)
    model.init_weights()
    total, _ = model.parse_losses(model(mode='loss', **model.data_preprocessor(random_batch(2))))
    total.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without  # DDP would stop at each
    with pytest.raises(AttributeError, match='has no text tower'):
        model.encode_text(torch.ones(1, 3, dtype=torch.int32))
    with pytest.raises(AttributeError, match='has no image projection'):
        model.encode_image(torch.zeros(1, 3, 32, 32))
