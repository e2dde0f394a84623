import math

import numpy as np
import pytest
import torch

from mmmaskclip.models.objectives.masked_language_modeling import (
    MaskedLanguageModeling,
    choose_words,
    masked_word_cross_entropy,
)
from mmmaskclip.models.objectives.noise import IMAGE_MASK_STREAM, TEXT_MASK_STREAM, sample_noise
from mmmaskclip.registry import MODELS

START, END = 98, 99


@pytest.fixture
def build(tiny_model_cfg):
    def build(with_contrast=False, depth=2, **kwargs):
        decoder = dict(type='TextDecoder', width=16, num_heads=2, depth=depth, vocab_size=100)
        objectives = dict(mlm=dict(type='MaskedLanguageModeling', decoder=decoder, **kwargs))
        if with_contrast:
            objectives['contrast'] = dict(type='ImageTextContrast')
        torch.manual_seed(0)
        model = MODELS.build(tiny_model_cfg(objectives))
        model.init_weights()
        return model

    return build


def _captions(*words, length=None):
    """Captions of so many words: start, words, end, zeros. Among the words is 0, which is also the padding."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.zeros(len(words), length or max(words) + 2, dtype=torch.int32)
    for row, count in enumerate(words):
        tokens[row, 0], tokens[row, count + 1] = START, END
        tokens[row, 1 : count + 1] = torch.randint(0, 98, (count,), generator=generator)
        tokens[row, 1 : count + 1][count // 2 : count // 2 + 1] = 0
    return tokens


def _batch(model, random_batch, tokens):
    return model.data_preprocessor(dict(random_batch(len(tokens)), tokens=tokens))


def _chosen(tokens, seeds, ratio):
    """Hidden positions of each caption, written as one would say it."""
    rows = []
    for row, seed in zip(tokens, seeds, strict=True):
        noise = sample_noise(seed.view(1), 77, TEXT_MASK_STREAM)[0].tolist()
        words = range(1, row.tolist().index(END))
        rows.append(sorted(sorted(words, key=lambda at, noise=noise: noise[at])[: max(1, round(ratio * len(words)))]))
    return rows


def _choose(tokens, seeds, ratio):
    """Hidden positions of each caption as the objective chooses them."""
    ends = tokens.argmax(dim=1).tolist()
    captions, positions = choose_words(tokens, sample_noise(seeds, tokens.shape[1], TEXT_MASK_STREAM), ratio, ends)
    return [sorted(positions[captions == row].tolist()) for row in range(len(tokens))]


@pytest.mark.parametrize('ratio', [0.2, 0.5, 1.0])
def test_chooses_this_share_of_the_words_and_nothing_else(ratio):
    tokens, seeds = _captions(0, 1, 2, 3, 5, 8, 13, 40, 75), torch.arange(9)
    assert _choose(tokens, seeds, ratio) == _chosen(tokens, seeds, ratio)


def test_every_word_is_chosen_equally_often():
    tokens, seeds = _captions(10).expand(5000, -1), torch.arange(5000)
    _, positions = choose_words(tokens, sample_noise(seeds, 12, TEXT_MASK_STREAM), 0.2, [11] * 5000)
    counts = torch.bincount(positions, minlength=12)
    assert counts[[0, 11]].tolist() == [0, 0]
    assert ((counts[1:11] - 1000).abs() < 5 * math.sqrt(1000 * 0.8)).all()


def test_cross_entropy_against_numpy():
    """Three captions with 2, 1 and 0 hidden words."""
    logits, words, captions = torch.randn(3, 7), torch.randint(7, (3,)), torch.tensor([0, 0, 1])
    x = logits.double().numpy()
    loss = np.log(np.exp(x).sum(-1)) - np.take_along_axis(x, words.numpy()[..., None], 1)[..., 0]
    expected = ((loss[0] + loss[1]) / 2 + loss[2] + 0) / 3
    assert masked_word_cross_entropy(logits, words, captions, 3).item() == pytest.approx(expected, rel=1e-6)
    assert masked_word_cross_entropy(logits.bfloat16(), words, captions, 3).dtype == torch.float32


def test_logits_exist_at_hidden_words_only(build, random_batch):
    """Slots for the most that the longest caption could hide were nine tenths of all logits."""
    model = build(mask_ratio=0.2)
    batch = _batch(model, random_batch, _captions(40, 3, 6, 0))
    seen = []
    model.objectives['mlm'].decoder.register_forward_hook(lambda module, args, logits: seen.append(logits))
    model(mode='loss', **batch)
    assert len(seen[0]) == 8 + 1 + 1 + 0


@pytest.mark.parametrize('depth', [0, 2])
def test_predicts_the_words_that_a_mask_token_replaces(build, random_batch, depth):
    model = build(depth=depth, mask_ratio=0.4, weight=0.5)
    objective, tower = model.objectives['mlm'], model.text_encoder
    batch = _batch(model, random_batch, _captions(3, 9, 6))
    terms = []
    for tokens, places in zip(batch['tokens'], _chosen(batch['tokens'], batch['seed'], 0.4), strict=True):
        tokens = tokens[: tokens.tolist().index(END) + 1]
        x = tower.token_embedding(tokens)
        x[places] = objective.mask_token
        x = tower.encode((x + tower.pos_embed[: len(tokens)]).unsqueeze(0))
        padding, places = torch.zeros(1, len(tokens), dtype=torch.bool), torch.tensor(places)
        logits = objective.decoder(x, padding, torch.zeros_like(places), places)
        terms.append(torch.nn.functional.cross_entropy(logits, tokens[places].long()))
    torch.testing.assert_close(model(mode='loss', **batch)['mlm_loss'], 0.5 * torch.stack(terms).mean())


def test_hidden_words_do_not_leak(build, random_batch):
    model = build(mask_ratio=0.4)
    batch = _batch(model, random_batch, _captions(9))
    seen = []
    model.objectives['mlm'].decoder.register_forward_hook(lambda module, args, logits: seen.append(logits))
    model(mode='loss', **batch)
    places = _chosen(batch['tokens'], batch['seed'], 0.4)[0]
    batch['tokens'][0, places] = 50
    model(mode='loss', **batch)
    assert torch.equal(*seen)
    visible = next(place for place in range(1, 10) if place not in places)
    batch['tokens'][0, visible] = 51
    model(mode='loss', **batch)
    assert not torch.allclose(seen[0], seen[2])


def test_padding_changes_nothing(build, random_batch):
    model = build()
    losses = [
        model(mode='loss', **_batch(model, random_batch, _captions(3, 9, 6, length=length)))['mlm_loss']
        for length in (None, 30)
    ]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize('depth', [0, 2])
def test_packed_captions_give_the_loss_and_gradients_of_padded_ones(build, random_batch, depth):
    model = build(depth=depth).double()
    batch = _batch(model, random_batch, _captions(3, 9, 0, 6, length=14))
    rows, results = [], []
    if depth:
        first = model.objectives['mlm'].decoder.blocks.layers[0]
        first.linear2.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[:-1].numel()))
    for packed in (False, True):
        model.text_encoder.packed = packed
        loss = model(mode='loss', **batch)['mlm_loss']
        loss.backward()
        results.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
        model.zero_grad()
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-7)
    assert rows == ([4 * 14, 5 + 11 + 2 + 8] if depth else [])


@pytest.mark.parametrize('words', [(4,), (0, 6)])
def test_text_tower_learns_and_the_rest_does_not(build, random_batch, words):
    model = build(with_contrast=True)
    model(mode='loss', **_batch(model, random_batch, _captions(*words)))['mlm_loss'].backward()
    grads = {name: p.grad is not None and bool(p.grad.abs().sum()) for name, p in model.named_parameters()}
    own = [name for name in grads if name.startswith(('text_encoder', 'objectives.mlm'))]
    assert all(grads[name] for name in own)
    assert not any(grads[name] for name in grads if name not in own)


def test_captions_without_words_give_zero_and_no_nan(build, random_batch):
    model = build()
    loss = model(mode='loss', **_batch(model, random_batch, _captions(0, 0)))['mlm_loss']
    loss.backward()
    assert loss.item() == 0
    assert all(not parameter.grad.any() for parameter in model.objectives['mlm'].parameters())
    batch = _batch(model, random_batch, _captions(6, 0))
    both = model(mode='loss', **batch)['mlm_loss']
    one = model(mode='loss', **{name: value[:1] for name, value in batch.items()})['mlm_loss']
    torch.testing.assert_close(both, one / 2)


def test_captions_all_alike_hide_different_words(build, random_batch):
    model = build()
    tokens = _captions(20).expand(4, -1)
    batch = _batch(model, random_batch, tokens)
    assert model(mode='loss', **batch)['mlm_loss'].isfinite()
    assert len(set(map(tuple, _choose(tokens, batch['seed'], 0.2)))) > 1


def test_text_and_image_masks_are_independent(build, random_batch):
    seeds = random_batch(1)['seed']
    assert TEXT_MASK_STREAM != IMAGE_MASK_STREAM
    noise = [sample_noise(seeds, 2000, stream)[0].numpy() for stream in (TEXT_MASK_STREAM, IMAGE_MASK_STREAM)]
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.1


def test_bfloat16_gives_a_float32_loss_near_the_exact_one(build, random_batch):
    model = build()
    batch = _batch(model, random_batch, _captions(3, 9, 6))
    exact = model(mode='loss', **batch)['mlm_loss']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = model(mode='loss', **batch)['mlm_loss']
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)


def test_accumulation_is_one_big_batch(build, random_batch):
    """Also with other lengths of captions, other counts of hidden words and other padding in each part."""
    whole, parts = build(), build()
    tokens = _captions(2, 4, 0, 30)
    batch = _batch(whole, random_batch, tokens)
    whole(mode='loss', **batch)['mlm_loss'].backward()
    for half, length in ((slice(0, 2), 6), (slice(2, 4), 32)):
        own = {name: value[half] for name, value in batch.items()}
        own['tokens'] = own['tokens'][:, :length]
        (parts(mode='loss', **own)['mlm_loss'] / 2).backward()
    for (name, one), other in zip(whole.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=lambda m, n=name: f'{n}: {m}')


def test_ratio_outside_its_range():
    with pytest.raises(ValueError, match='mask_ratio=0'):
        MaskedLanguageModeling(dict(type='TextDecoder'), mask_ratio=0)


@pytest.mark.parametrize('words', [dict(causal=False, pool='mean'), dict(causal=False, pool='last'), dict(pool=2)])
def test_vocabularies_with_another_end_are_refused(tiny_model_cfg, random_batch, words):
    decoder = dict(type='TextDecoder', width=16, num_heads=2, depth=1, vocab_size=100)
    config = tiny_model_cfg(dict(mlm=dict(type='MaskedLanguageModeling', decoder=decoder)))
    config['text_encoder'].update(words)
    model = MODELS.build(config)
    with pytest.raises(ValueError, match='highest id alone.*leave this objective out'):
        model(mode='loss', **_batch(model, random_batch, _captions(3, 4)))
