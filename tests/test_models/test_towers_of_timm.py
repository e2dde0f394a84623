"""Towers of timm beside parity: precision, cost, registers, and every objective of dense tuning."""

import pytest
import torch
from exported import released
from read_out_references import REFERENCES
from tiny_timm import MODELS
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mmmaskclip.models.backbones import TimmTower
from mmmaskclip.models.heads import AttentionPoolProjectionHead
from mmmaskclip.registry import MODELS as REGISTRY


@pytest.fixture(params=MODELS)
def source(request, tmp_path):
    _, model = released(tmp_path / 'source', request.param)
    return tmp_path / 'source/open_clip_model.safetensors', model


def config_of(model):
    """The model's towers as a config."""
    image = dict(type='TimmTower', model_name=model.image_encoder.model_name, **model.image_encoder.settings)
    text = model.text_encoder
    words = dict(width=32, num_layers=2, num_heads=2, vocab_size=60, context_length=12)
    projection = model.image_projection
    head = dict(type=type(projection).__name__, in_channels=32, embed_dims=16)
    if isinstance(projection, AttentionPoolProjectionHead):
        head |= dict(num_heads=projection.attention.num_heads, with_cls=projection.with_cls)
    else:
        head['pool'] = 'cls'
    return dict(
        type='ImageTextPretrainer',
        data_preprocessor=dict(type='ImageTextPreprocessor', mean=[127.5] * 3, std=[127.5] * 3),
        image_encoder=image,
        image_projection=head,
        text_encoder=dict(type=type(text).__name__, **words),
        text_projection=dict(type='TextProjectionHead', in_channels=32, embed_dims=16),
    )


@torch.no_grad()
def test_any_grid_batch_and_precision(source):
    tower = source[1].image_encoder
    height, width = tower.patch_size
    for rows, columns in ((1, 1), (3, 2)):
        images = torch.randn(2, 3, rows * height, columns * width - 1)
        for name in REFERENCES:
            both, grid = tower.dense(images, name)
            assert grid == (rows, columns)
            torch.testing.assert_close(tower.dense(images[1:], name)[0], both[1:], rtol=1e-3, atol=1e-4)
            with torch.autocast('cpu', torch.bfloat16):
                half = tower.dense(images, name)[0].float()
            assert half.isfinite().all()
            assert F.cosine_similarity(half, both, dim=-1).min() > 0.95, name


@torch.no_grad()
def test_a_pool_by_attention_does_not_cost_twice_the_plain_pass():
    """Every patch goes through the pool. Counted on SigLIP's ViT-B/16 at 224 px, without computing anything."""

    def cost(call):
        with FlopCounterMode(display=False) as counter:
            call()
        return counter.get_total_flops() / 1e9

    with torch.device('meta'):
        tower, head = TimmTower('vit_base_patch16_siglip_224'), AttentionPoolProjectionHead(768, None)
        for part in (tower, head):
            part.eval().requires_grad_(False)
        images = torch.empty(1, 3, 224, 224)
        plain = cost(lambda: head(tower.features(images)))
        # The search of self_calibrated for neighbours needs numbers; its passes are counted on our tower.
        names = [name for name in REFERENCES if name != 'self_calibrated']
        costs = {name: cost(lambda name=name: head.dense(tower.dense(images, name)[0])) for name in names}
    assert max(costs.values()) < 1.1 * plain
    assert (round(plain, 1), round(costs['patch'], 1)) == (35.4, 37.3)


def test_every_objective_of_dense_tuning_starts_from_it(source):
    """Student and frozen teacher, new registers, and one step whose gradients are finite."""
    checkpoint, model = source
    config = config_of(model)
    config['objectives'] = dict(
        contrast=dict(type='ImageTextContrast'),
        preserve=dict(type='PreserveGlobal'),
        regions=dict(type='RegionCropDistillation', num_regions=1),
        correlation=dict(type='PatchCorrelation'),
        local=dict(type='TextPooledContrast'),
        masked=dict(
            type='MaskedSelfDistillation',
            decoder=dict(type='MaskedTokenDecoder', num_patches=16, width=32, num_heads=2),
            loss=dict(type='FeatureRegressionLoss'),
        ),
        registers=dict(
            type='DenoisedDistillation',
            frozen=dict(encoder=dict(config['image_encoder']), checkpoint=str(checkpoint)),
            num_copies=1,
        ),
    )
    config |= dict(teacher_momentum=1.0)
    config['image_encoder']['num_registers'] = 2
    tuned = REGISTRY.build(config)
    tuned.init_weights()
    tuned.image_encoder.trunk.load_state_dict(model.image_encoder.trunk.state_dict())
    with torch.no_grad():
        for parameter in tuned.image_encoder.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    side = tuned.image_encoder.img_size[0]
    ids = torch.tensor([[1, 5, 59], [1, 7, 59], [1, 9, 59]])
    losses = tuned(mode='loss', image=torch.randn(3, 3, side, side), tokens=ids, seed=torch.arange(3))
    used = {name.partition('_')[0] for name in losses if 'loss' in name}
    assert used == set(config['objectives'])
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    gradients = {name: value.grad for name, value in tuned.image_encoder.named_parameters()}
    assert not [name for name, value in gradients.items() if value is None or not value.isfinite().all()]
    assert gradients['registers'].any()


@torch.no_grad()
def test_registers_are_tokens_that_no_read_out_returns(source):
    tower = source[1].image_encoder
    settings = dict(model_name=tower.model_name, **tower.settings)
    extended = TimmTower(**settings, num_registers=2).eval()
    extended.load_state_dict(dict(tower.state_dict(), registers=torch.zeros(1, 2, 32)))
    images = torch.randn(2, 3, *tower.img_size)
    plain = tower.features(images).patches
    features = extended.features(images)
    assert features.patches.shape == plain.shape
    assert not torch.allclose(features.patches, plain, atol=1e-3)
    close = dict(rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(extended.dense(images)[0], features.patches, **close)
    torch.testing.assert_close(extended.encode(extended.embed(images)[0]).patches, features.patches, **close)
    # One register is what one test-time register of zeros is, where that stands at its place.
    if tower.trunk.num_prefix_tokens <= 1 and isinstance(tower.trunk.norm_pre, torch.nn.Identity):
        one = TimmTower(**settings, num_registers=1).eval()
        one.load_state_dict(dict(tower.state_dict(), registers=torch.zeros(1, 1, 32)))
        expected = tower.dense(images, dict(name='kk', registers={}))[0]
        torch.testing.assert_close(one.dense(images, 'kk')[0], expected, **close)
