import numpy as np
import pytest
import torch

from mmmaskclip.models.objectives.views import BatchViews
from mmmaskclip.registry import MODELS

SMALL = dict(n_hid=8, n_blk_per_group=1, vocab_size=32)


@pytest.fixture
def cfg(small_tokenizer, tmp_path):
    def cfg(**kwargs):
        torch.save(small_tokenizer.encoder.state_dict(), tmp_path / 'dalle.pth')
        tokenizer = dict(type='DALLETokenizer', checkpoint=str(tmp_path / 'dalle.pth'), encoder=SMALL)
        return dict(type='VisualTokenPrediction', tokenizer=tokenizer, in_channels=32, num_codes=32) | kwargs

    return cfg


@pytest.fixture
def build(tiny_model_cfg):
    def build(objective, **others):
        model = MODELS.build(tiny_model_cfg(dict(tokens=objective, **others)))
        model.init_weights()
        return model

    return build


def _mask(model, batch):
    return BatchViews(model, batch).mask(model.objectives['tokens'].mask)


def test_equals_cross_entropy_in_numpy(build, cfg, random_batch):
    model = build(cfg(weight=0.5))
    raw = random_batch(3)
    batch, objective = model.data_preprocessor(raw), model.objectives['tokens']
    masked = _mask(model, batch).masked
    assert masked.shape == (3, 16 - int(16 * 0.6))
    tokens, _ = model.image_encoder.embed(batch['image'])
    for row, hidden in enumerate(masked.tolist()):
        for patch in hidden:
            tokens[row, patch] = objective.mask_token[0, 0] + model.image_encoder.pos_embed[0, 1 + patch]
    logits = objective.head(model.image_encoder.encode(tokens).patches).detach().numpy().astype(np.float64)
    ids = objective.tokenizer(raw['image'] / 255, (4, 4)).numpy()
    losses = [
        np.log(np.exp(logits[row, patch]).sum()) - logits[row, patch, ids[row, patch]]
        for row, hidden in enumerate(masked.tolist())
        for patch in hidden
    ]
    assert len({ids[row, patch] for row, hidden in enumerate(masked.tolist()) for patch in hidden}) > 5
    loss = model(mode='loss', **batch)['tokens_loss']
    assert loss.item() == pytest.approx(0.5 * np.mean(losses), rel=1e-5)


def test_tower_mask_token_and_head_learn_and_nothing_else(build, cfg, random_batch):
    model = build(cfg(), contrast=dict(type='ImageTextContrast'))
    model(mode='loss', **model.data_preprocessor(random_batch(2)))['tokens_loss'].backward()
    got = {name: p.grad is not None and bool(p.grad.abs().sum()) for name, p in model.named_parameters()}
    own = ('image_encoder.', 'objectives.tokens.mask_token', 'objectives.tokens.head.')
    assert got == {name: name.startswith(own) for name in got}


def test_hidden_patches_have_no_influence_but_as_targets(build, cfg, random_batch):
    model = build(cfg())
    batch = model.data_preprocessor(random_batch(1))
    ids = torch.randint(0, 32, (1, 16))
    model.objectives['tokens'].tokenizer.forward = lambda *_: ids
    before, mask = model(mode='loss', **batch)['tokens_loss'], _mask(model, batch)

    def painted(patch):
        image, (row, column) = batch['image'].clone(), divmod(patch, 4)
        image[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 3.0
        return model(mode='loss', **dict(batch, image=image))['tokens_loss']

    torch.testing.assert_close(painted(mask.masked[0, 0].item()), before, rtol=0, atol=0)
    assert not torch.equal(painted(mask.visible[0, 0].item()), before)


def test_accumulation_gives_the_gradients_of_one_batch(build, cfg, random_batch):
    model = build(cfg())
    batch, gradients = model.data_preprocessor(random_batch(4)), []
    for parts in ([slice(0, 4)], [slice(0, 2), slice(2, 4)]):
        model.zero_grad()
        for part in parts:
            losses = model(mode='loss', **{name: value[part] for name, value in batch.items()})
            (losses['tokens_loss'] / len(parts)).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-6)


def test_bf16_is_near_float32_and_its_loss_is_float32(build, cfg, random_batch):
    model = build(cfg())
    batch = model.data_preprocessor(random_batch(2))
    expected = model(mode='loss', **batch)['tokens_loss']
    with torch.autocast('cpu', torch.bfloat16):
        loss = model(mode='loss', **batch)['tokens_loss']
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0)
    loss.backward()


def test_one_image_and_equal_captions(build, cfg, random_batch):
    model = build(cfg(), contrast=dict(type='ImageTextContrast'))
    batch = model.data_preprocessor(random_batch(3))
    alike = dict(batch, tokens=batch['tokens'][:1].expand(3, -1))
    losses = model(mode='loss', **alike)
    torch.testing.assert_close(losses['tokens_loss'], model(mode='loss', **batch)['tokens_loss'])
    assert losses['contrast_loss'].isfinite()
    assert model(mode='loss', **{name: value[:1] for name, value in batch.items()})['tokens_loss'].isfinite()


def test_another_vocabulary_is_named(build, cfg):
    with pytest.raises(ValueError, match='num_codes=8192, but the tokenizer has 32 codes'):
        build(cfg(num_codes=8192))
