import numpy as np
import pytest
import torch

from mmmaskclip.models.objectives.masking import RandomMask
from mmmaskclip.models.objectives.views import BatchViews
from mmmaskclip.registry import MODELS


def _cfg(**kwargs):
    decoder = dict(
        type='mmpretrain.MAEPretrainDecoder',
        num_patches=16,
        patch_size=8,
        embed_dim=32,
        decoder_embed_dim=16,
        decoder_depth=1,
        decoder_num_heads=2,
    )
    return dict(type='PixelReconstruction', decoder=decoder, patch_size=8) | kwargs


@pytest.fixture
def build(tiny_model_cfg):
    def build(cfg, **others):
        model = MODELS.build(tiny_model_cfg(dict(pixels=cfg, **others)))
        model.init_weights()
        return model

    return build


def _reference(model, batch, norm_pix):
    """MAE's loss in NumPy, patch by patch, from the decoder's prediction."""
    views, objective = BatchViews(model, batch), model.objectives['pixels']
    mask = views.mask(objective.mask)
    features = model.image_encoder.encode(views.patches(), mask.visible)
    predicted = objective.decoder(torch.cat((features.cls[:, None], features.patches), 1), mask.restore).detach()
    losses = []
    for image, prediction, hidden in zip(batch['image'].numpy(), predicted.numpy(), mask.masked.tolist(), strict=True):
        for patch in hidden:
            row, column = 8 * (patch // 4), 8 * (patch % 4)
            pixels = image[:, row : row + 8, column : column + 8].transpose(1, 2, 0).reshape(-1)
            if norm_pix:
                pixels = (pixels - pixels.mean()) / np.sqrt(pixels.var(ddof=1) + 1e-6)
            losses.append(((prediction[patch] - pixels) ** 2).mean())
    return float(np.mean(losses))


@pytest.mark.parametrize('norm_pix', [True, False])
def test_equals_mae_in_numpy(build, random_batch, norm_pix):
    model = build(_cfg(norm_pix=norm_pix, weight=0.5))
    batch = model.data_preprocessor(random_batch(3))
    loss = model(mode='loss', **batch)['pixels_loss']
    assert loss.item() == pytest.approx(0.5 * _reference(model, batch, norm_pix), rel=1e-5)


def test_masks_equal_those_of_the_other_masked_objectives(build, distillation_cfg, random_batch, monkeypatch):
    """The mask is the sample's, not the objective's."""
    model, masks = build(_cfg(), distillation=distillation_cfg()), []
    draw = RandomMask.__call__
    monkeypatch.setattr(RandomMask, '__call__', lambda *args: masks.append(draw(*args)) or masks[-1])
    model(mode='loss', **model.data_preprocessor(random_batch(3)))
    assert len(masks) == 2
    assert torch.equal(masks[0].masked, masks[1].masked)


def test_image_tower_and_decoder_learn_and_nothing_else(build, random_batch):
    model = build(_cfg(), contrast=dict(type='ImageTextContrast'))
    model(mode='loss', **model.data_preprocessor(random_batch(2)))['pixels_loss'].backward()
    got = {name: p.grad is not None and bool(p.grad.abs().sum()) for name, p in model.named_parameters()}
    expected = {
        name: name.startswith(('image_encoder.', 'objectives.pixels.decoder.')) and 'decoder_pos_embed' not in name
        for name in got
    }
    assert got == expected


def test_hidden_pixels_reach_the_loss_as_target_only(build, random_batch, monkeypatch):
    model = build(_cfg())
    batch, predicted = model.data_preprocessor(random_batch(1)), []
    objective = model.objectives['pixels']
    objective.decoder.register_forward_hook(lambda module, args, output: predicted.append(output))
    mask = BatchViews(model, batch).mask(objective.mask)

    def painted(patch):
        image, (row, column) = batch['image'].clone(), divmod(patch, 4)
        image[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 3.0
        model(mode='loss', **dict(batch, image=image))
        return predicted[-1]

    model(mode='loss', **batch)
    assert torch.equal(painted(mask.masked[0, 0].item()), predicted[0])
    assert not torch.equal(painted(mask.visible[0, 0].item()), predicted[0])


def test_accumulation_gives_the_gradients_of_one_batch(build, random_batch):
    model = build(_cfg())
    batch, gradients = model.data_preprocessor(random_batch(4)), []
    for parts in ([slice(0, 4)], [slice(0, 2), slice(2, 4)]):
        model.zero_grad()
        for part in parts:
            losses = model(mode='loss', **{name: value[part] for name, value in batch.items()})
            (losses['pixels_loss'] / len(parts)).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-6)


def test_bf16_is_near_float32_and_its_loss_is_float32(build, random_batch):
    model = build(_cfg())
    batch = model.data_preprocessor(random_batch(2))
    expected = model(mode='loss', **batch)['pixels_loss']
    with torch.autocast('cpu', torch.bfloat16):
        loss = model(mode='loss', **batch)['pixels_loss']
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0)
    loss.backward()


def test_one_image_and_equal_captions(build, random_batch):
    model = build(_cfg(), contrast=dict(type='ImageTextContrast'))
    batch = model.data_preprocessor(random_batch(3))
    alike = dict(batch, tokens=batch['tokens'][:1].expand(3, -1))
    losses = model(mode='loss', **alike)
    torch.testing.assert_close(losses['pixels_loss'], model(mode='loss', **batch)['pixels_loss'])
    assert losses['contrast_loss'].isfinite()
    assert model(mode='loss', **{name: value[:1] for name, value in batch.items()})['pixels_loss'].isfinite()


def test_one_colour_patches_do_not_divide_by_zero(build, random_batch):
    model = build(_cfg())
    batch = model.data_preprocessor(random_batch(1))
    assert model(mode='loss', **dict(batch, image=torch.zeros_like(batch['image'])))['pixels_loss'].isfinite()


def test_sizes_that_do_not_fit_are_named(build, random_batch):
    with pytest.raises(ValueError, match='predicts 192 values for each patch, but patch_size=16 makes 768'):
        build(_cfg(patch_size=16))
    cfg = _cfg()
    cfg['decoder']['num_patches'] = 49
    model = build(cfg)
    with pytest.raises(ValueError, match='images have 16 patches, but decoder.num_patches=49'):
        model(mode='loss', **model.data_preprocessor(random_batch(2)))
