"""Read-outs against NumPy references written from the papers' formulas, on random weights, tower by tower."""

from math import erf

import numpy as np
import pytest
import torch
from torch import nn

from mmmaskclip.models.backbones.read_outs import READ_OUTS, find_read_out
from mmmaskclip.registry import MODELS

TOWER = dict(
    type='CLIPVisionTransformer',
    arch=dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64),
    patch_size=8,
    img_size=32,
)
TOWERS = {
    'plain': {},
    'registers': dict(num_registers=2),
    'openai': dict(pre_norm=True, quick_gelu=True, norm_cfg=dict(type='LN', eps=1e-5)),
    'layer scale': dict(layer_cfgs=dict(layer_scale_init_value=0.5)),
}


def make_tower(**changes):
    torch.manual_seed(0)
    tower = MODELS.build({**TOWER, **changes})
    tower.init_weights()
    for name, parameter in tower.named_parameters():
        # Away from 0 and 1, where a missing bias or norm would not show.
        if 'bias' in name or 'ln' in name:
            nn.init.normal_(parameter, std=0.5)
    return tower.eval()


class Reference:
    """The tower in NumPy, from its weights and its input to the blocks."""

    def __init__(self, tower):
        self.tower = tower
        self.weights = {name: value.detach().double().numpy() for name, value in tower.state_dict().items()}
        self.heads = tower.layers[0].attn.num_heads
        self.extra = 1 + tower.num_registers

    def norm(self, x, name):
        eps = dict(self.tower.named_modules())[name].eps
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
        return x * self.weights[f'{name}.weight'] + self.weights[f'{name}.bias']

    def linear(self, x, name):
        return x @ self.weights[f'{name}.weight'].T + self.weights[f'{name}.bias']

    def qkv(self, x, layer):
        """Queries, keys, values of a block: (3, heads, tokens, channels)."""
        parts = self.linear(self.norm(x, f'layers.{layer}.ln1'), f'layers.{layer}.attn.qkv')
        return parts.reshape(len(x), 3, self.heads, -1).transpose(1, 2, 0, 3)

    def project(self, attended, layer):
        """Heads (heads, tokens, channels) to what the block adds."""
        joined = attended.transpose(1, 0, 2).reshape(attended.shape[1], -1)
        return self.linear(joined, f'layers.{layer}.attn.proj') * self.weights.get(
            f'layers.{layer}.attn.gamma1.weight', 1.0
        )

    def feed_forward(self, x, layer):
        hidden = self.linear(self.norm(x, f'layers.{layer}.ln2'), f'layers.{layer}.ffn.layers.0.0')
        if 'QuickGELU' in type(self.tower.layers[layer].ffn.layers[0][1]).__name__:
            hidden = hidden / (1 + np.exp(-1.702 * hidden))
        else:
            hidden = hidden * (1 + np.vectorize(erf)(hidden / np.sqrt(2))) / 2
        out = self.linear(hidden, f'layers.{layer}.ffn.layers.1')
        return out * self.weights.get(f'layers.{layer}.ffn.gamma2.weight', 1.0)

    def block(self, x, layer, attention=None):
        """One block; ``attention(q, k)`` gives the weights (heads, tokens, tokens)."""
        q, k, v = self.qkv(x, layer)
        weights = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])) if attention is None else attention(q, k)
        x = x + self.project(weights @ v, layer)
        return x + self.feed_forward(x, layer)

    def until(self, x, stop):
        for layer in range(stop):
            x = self.block(x, layer)
        return x

    def finish(self, x):
        return self.norm(x, 'ln1')[self.extra :]


def softmax(scores):
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def blocks_input(tower, images):
    """Input of the first block, (B, E + N, C), as float64."""
    with torch.no_grad():
        return tower._prepare(tower.embed(images)[0]).double().numpy()


def patch(ref, x, grid):
    return ref.finish(ref.until(x, 3))


def value(ref, x, grid):
    """Zhou et al.: every token attends to itself alone."""
    return ref.finish(ref.block(ref.until(x, 2), 2, lambda q, k: np.eye(q.shape[1])[None]))


REFERENCES = {'patch': patch, 'value': value}


def test_every_read_out_has_a_reference():
    assert set(REFERENCES) == set(READ_OUTS)


@pytest.mark.parametrize('tower', TOWERS)
@pytest.mark.parametrize('name', REFERENCES)
def test_equals_the_formula(name, tower):
    tower = make_tower(**TOWERS[tower])
    images = torch.randn(2, 3, 32, 45)  # The right column of patches is padded.
    with torch.no_grad():
        found, grid = tower.dense(images, name)
    assert grid == (4, 6)
    reference = Reference(tower)
    expected = np.stack([REFERENCES[name](reference, x, grid) for x in blocks_input(tower, images)])
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_patch_is_the_towers_output():
    tower = make_tower(num_registers=2)
    images = torch.randn(2, 3, 32, 40)
    assert torch.equal(tower.dense(images)[0], tower.features(images).patches)


@pytest.mark.parametrize('name', REFERENCES)
def test_works_in_bfloat16(name):
    tower = make_tower()
    images = torch.randn(1, 3, 24, 56)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        low = tower.dense(images, name)[0].float()
    with torch.no_grad():
        full = tower.dense(images, name)[0]
    assert torch.nn.functional.cosine_similarity(low, full, dim=-1).min() > 0.99


def test_unknown_read_outs_and_options_are_named():
    with pytest.raises(ValueError, match="read_out='key': choose one of patch, value"):
        find_read_out('key')
    with pytest.raises(ValueError, match="read_out 'value' has no option 'std': it has none"):
        find_read_out(dict(type='value', std=5))


def test_unpadded_fraction():
    assert make_tower().unpadded_fraction((32, 29)) == (1.0, 29 / 32)
