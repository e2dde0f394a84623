import pytest
import torch
from torch.nn import functional as F

from mmmaskclip.contracts import Pairs
from mmmaskclip.models.backbones import CLIPVisionTransformer
from mmmaskclip.models.losses import NTXentLoss
from mmmaskclip.models.objectives import ImageContrast
from mmmaskclip.models.objectives.views import BatchViews
from mmmaskclip.registry import MODELS

HEAD = dict(
    type='mmpretrain.NonLinearNeck',
    in_channels=32,
    hid_channels=48,
    out_channels=8,
    num_layers=3,
    with_bias=True,
    with_last_bias=True,
    with_last_bn=False,
    with_avg_pool=False,
    norm_cfg=dict(type='SyncBN'),
)


@pytest.fixture
def build(tiny_model_cfg):
    def build(objectives=None, **kwargs):
        own = dict(type='ImageContrast', head=HEAD, **kwargs)
        model = MODELS.build(tiny_model_cfg(dict(**(objectives or {}), slip=own)))
        model.init_weights()
        return model

    return build


@pytest.fixture
def batch_of(random_batch):
    def batch_of(model, size):
        batch = random_batch(size)
        batch |= {f'augmented_{i}': random_batch(size, seed=i)['image'] for i in (1, 2)}
        return model.data_preprocessor(batch)

    return batch_of


@pytest.mark.parametrize('pool', ['mean', 'cls'])
def test_is_nt_xent_of_the_heads_output(build, batch_of, pool):
    model = build(pool=pool)
    batch = batch_of(model, 4)
    features = [model.image_encoder.features(batch[f'augmented_{i}']) for i in (1, 2)]
    pooled = [f.patches.mean(1) if pool == 'mean' else f.cls for f in features]
    first, second = F.normalize(model.objectives['slip'].head((torch.cat(pooled),))[0], dim=-1).chunk(2)
    expected = NTXentLoss()(Pairs(first, second, first, second))
    torch.testing.assert_close(model(mode='loss', **batch)['slip_loss'], expected)


def test_what_learns(build, batch_of):
    model = build()
    model(mode='loss', **batch_of(model, 4))['slip_loss'].backward()
    learns = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert not any(name.startswith(('text_', 'image_projection')) for name in learns)
    own = {name for name, _ in model.named_parameters() if name.startswith(('image_encoder', 'objectives.slip.head'))}
    assert own == learns


def test_views_are_encoded_together_and_contrast_pays_for_its_own_image(build, batch_of, monkeypatch):
    model = build(dict(contrast=dict(type='ImageTextContrast')))
    sizes, encode = [], CLIPVisionTransformer.encode
    monkeypatch.setattr(
        CLIPVisionTransformer, 'encode', lambda self, x, *a: sizes.append(len(x)) or encode(self, x, *a)
    )
    model(mode='loss', **batch_of(model, 3))
    assert sorted(sizes) == [3, 6]


def test_one_image(build, batch_of):
    model = build()
    loss = model(mode='loss', **batch_of(model, 1))['slip_loss']
    loss.backward()
    assert loss.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_captions_do_not_matter(build, batch_of):
    model = build().eval()
    batch = batch_of(model, 3)
    alike = batch | {'tokens': batch['tokens'][:1].expand(3, -1)}
    torch.testing.assert_close(model(mode='loss', **alike)['slip_loss'], model(mode='loss', **batch)['slip_loss'])


def test_bfloat16(build, batch_of):
    model = build()
    batch = batch_of(model, 4)
    exact = model(mode='loss', **batch)['slip_loss']
    with torch.autocast('cpu', torch.bfloat16):
        loss = model(mode='loss', **batch)['slip_loss']
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.1, atol=0.1)


def test_halves_are_not_the_whole_because_the_negatives_are_fewer(build, batch_of):
    model = build().eval()
    batch = batch_of(model, 4)
    whole = model(mode='loss', **batch)['slip_loss']
    halves = [
        model(mode='loss', **{k: v[part] for k, v in batch.items()})['slip_loss'] for part in (slice(0, 2), slice(2, 4))
    ]
    assert sum(halves) / 2 < whole


def test_weight(build, batch_of):
    model = build(weight=0.25).eval()
    plain = build().eval()
    plain.load_state_dict(model.state_dict())
    batch = batch_of(model, 3)
    torch.testing.assert_close(
        model(mode='loss', **batch)['slip_loss'], 0.25 * plain(mode='loss', **batch)['slip_loss']
    )


def test_missing_view_is_named(build, random_batch):
    model = build()
    with pytest.raises(KeyError, match="needs 'augmented_1'"):
        model(mode='loss', **model.data_preprocessor(random_batch(2)))


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (dict(views=('a',)), r"views=\('a',\): give the names of two"),
        (dict(views=('a', 'a')), 'two different image views'),
        (dict(pool='max'), "pool='max'"),
    ],
)
def test_wrong_options(option, message):
    with pytest.raises(ValueError, match=message):
        ImageContrast(HEAD, **option)


def test_both_views_cost_one_pass_and_are_kept(build, batch_of, monkeypatch):
    model, passes = build().eval(), []
    encode = CLIPVisionTransformer.encode
    monkeypatch.setattr(CLIPVisionTransformer, 'encode', lambda *args: passes.append(1) or encode(*args))
    views = BatchViews(model, batch_of(model, 2))
    for _ in range(2):
        model.objectives['slip'](views)
    assert len(passes) == 1
