"""Read-outs against NumPy references written from the papers' formulas, on random weights, tower by tower."""

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import nn

from mmmaskclip.models.backbones.read_outs import READ_OUTS, find_read_out, local_outlier_factors
from mmmaskclip.models.backbones.register_neurons import find_register_neurons
from mmmaskclip.registry import MODELS

TOWER = dict(
    type='CLIPVisionTransformer',
    arch=dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64),
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
            hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
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


LAST = 3


def patch(ref, x, grid):
    return ref.finish(ref.until(x, 4))


def value(ref, x, grid):
    """Zhou et al.: every token attends to itself alone."""
    return ref.finish(ref.block(ref.until(x, LAST), LAST, lambda q, k: np.eye(q.shape[1])[None]))


def self_self(part):
    """ClearCLIP: Proj(softmax(a a / sqrt(d)) v), no residual, no feed-forward network."""

    def reference(ref, x, grid):
        qkv = ref.qkv(ref.until(x, LAST), LAST)
        weights = softmax(qkv[part] @ qkv[part].swapaxes(1, 2) / np.sqrt(qkv.shape[-1]))
        return ref.finish(ref.project(weights @ qkv[2], LAST))

    return reference


def csa(ref, x, grid):
    """SCLIP: softmax(q q / sqrt(d)) + softmax(k k / sqrt(d)) in an otherwise unchanged block."""

    def attention(q, k):
        scale = np.sqrt(q.shape[-1])
        return softmax(q @ q.swapaxes(1, 2) / scale) + softmax(k @ k.swapaxes(1, 2) / scale)

    return ref.finish(ref.block(ref.until(x, LAST), LAST, attention))


def neighbourhood_attention(ref, x, grid):
    """NACLIP: softmax(k k / sqrt(d) + Gaussian), the Gaussian of the distance of patches with deviation 5."""
    k = ref.qkv(x, LAST)[1]
    scores = k @ k.swapaxes(1, 2) / np.sqrt(k.shape[-1])
    for i, j in np.ndindex(grid[0] * grid[1], grid[0] * grid[1]):
        distance = (i // grid[1] - j // grid[1]) ** 2 + (i % grid[1] - j % grid[1]) ** 2
        scores[:, ref.extra + i, ref.extra + j] += np.exp(-distance / 50)
    return softmax(scores)


def naclip(ref, x, grid):
    x = ref.until(x, LAST)
    return ref.finish(ref.project(neighbourhood_attention(ref, x, grid) @ ref.qkv(x, LAST)[2], LAST))


def resclip(ref, x, grid):
    """ResCLIP: half of it, and half of the query-key attention of the middle; of four blocks that is the third."""
    before = ref.until(x, 2)
    q, k, _ = ref.qkv(before, 2)
    middle = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
    x = ref.block(before, 2)
    weights = neighbourhood_attention(ref, x, grid) / 2 + middle / 2
    return ref.finish(ref.project(weights @ ref.qkv(x, LAST)[2], LAST))


def outlier_factors(points, k):
    """Breunig et al., point by point."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    order = [[j for j in np.argsort(row, kind='stable') if j != i][:k] for i, row in enumerate(distances)]
    reach = [distances[i, near[-1]] for i, near in enumerate(order)]
    density = [1 / np.mean([max(reach[j], distances[i, j]) for j in near]) for i, near in enumerate(order)]
    return np.array([np.mean([density[j] for j in near]) / density[i] for i, near in enumerate(order)])


def self_calibrated(ref, x, grid):
    middle = ref.until(x, 2)
    patches = middle[ref.extra :] / np.linalg.norm(middle[ref.extra :], axis=-1, keepdims=True)
    similarity = np.maximum(patches @ patches.T, 0)
    similarity /= similarity.sum(-1, keepdims=True)
    x = ref.block(middle, 2)
    patches = x[ref.extra :].copy()
    bad = set(np.argsort(-outlier_factors(patches, 20))[: round(0.05 * len(patches))])
    for i in bad:
        row, column = divmod(i, grid[1])
        around = [
            r * grid[1] + c
            for r in range(max(0, row - 1), min(grid[0], row + 2))
            for c in range(max(0, column - 1), min(grid[1], column + 2))
        ]
        patches[i] = np.mean([x[ref.extra + j] for j in around if j not in bad], axis=0)
    _, k, v = ref.qkv(np.concatenate((x[: ref.extra], patches)), LAST)[:, :, ref.extra :]
    weights = (softmax(k @ k.swapaxes(1, 2) / np.sqrt(k.shape[-1])) + similarity) / 2
    return ref.norm(ref.project(weights @ v, LAST), 'ln1')


REFERENCES = {
    'patch': patch,
    'value': value,
    'qq': self_self(0),
    'kk': self_self(1),
    'vv': self_self(2),
    'csa': csa,
    'naclip': naclip,
    'resclip': resclip,
    'self_calibrated': self_calibrated,
}


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
    with pytest.raises(ValueError, match="read_out='key': choose one of patch, value, qq"):
        find_read_out('key')
    with pytest.raises(ValueError, match="read_out 'value' has no option 'std': it has none"):
        find_read_out(dict(name='value', std=5))


def test_options():
    tower, images = make_tower(), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        found = [tower.dense(images, dict(name='naclip', std=std))[0] for std in (5, 5.0, 0.1, 1e6)]
        plain = tower.dense(images, 'naclip')[0]
        even = tower.dense(images, 'kk')[0]
    assert torch.equal(found[0], plain)
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[2], plain, atol=1e-3)
    # Of the same height for all patches a Gaussian changes only what the class token gets.
    assert (found[3] - even).abs().max() < (found[2] - even).abs().max()


@pytest.mark.parametrize('name', ['patch', 'kk'])
def test_registers_take_the_activations_of_their_neurons(name):
    tower, images = make_tower(), torch.randn(2, 3, 32, 40)
    with torch.no_grad():
        found, grid = tower.dense(images, dict(name=name, registers={1: [3, 50]}))
        plain = tower.dense(images, name)[0]

    class Moved(Reference):
        def feed_forward(self, x, layer):
            if layer != 1:
                return super().feed_forward(x, layer)
            hidden = self.linear(self.norm(x, 'layers.1.ln2'), 'layers.1.ffn.layers.0.0')
            hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
            largest = hidden[:, [3, 50]].max(0)
            hidden[:, [3, 50]] = 0
            hidden[1, [3, 50]] = largest
            return self.linear(hidden, 'layers.1.ffn.layers.1')

    reference = Moved(tower)
    reference.extra = 2
    expected = []
    for x in blocks_input(tower, images):
        expected.append(REFERENCES[name](reference, np.insert(x, 1, 0, axis=0), grid))
    np.testing.assert_allclose(found.numpy(), np.stack(expected), atol=2e-5, rtol=1e-4)
    with torch.no_grad():  # and nothing of it remains
        assert torch.equal(tower.dense(images, name)[0], plain)
    for registers, message in (({9: [1]}, 'blocks 0 to 3'), ({0: [64]}, 'neurons are 0 to 63')):
        with pytest.raises(ValueError, match=message):
            tower.dense(images, dict(name=name, registers=registers))


def test_the_neurons_of_outliers_are_found():
    tower, images = make_tower(), torch.randn(2, 3, 32, 40)
    with torch.no_grad():  # two neurons that shout at one patch
        tower.layers[1].ffn.layers[0][0].bias[[5, 9]] = 40.0
    found = find_register_neurons(tower, images, count=2)
    assert found == {1: [5, 9]}


def test_outlier_factors_find_what_lies_apart():
    points = torch.randn(2, 30, 8, generator=torch.Generator().manual_seed(0))
    points[0, 7] += 6
    factors = local_outlier_factors(points, 5)
    assert factors[0].argmax() == 7
    for found, one in zip(factors, points, strict=True):
        np.testing.assert_allclose(found.numpy(), outlier_factors(one.numpy(), 5), rtol=1e-3)


def test_unpadded_fraction():
    assert make_tower().unpadded_fraction((32, 29)) == (1.0, 29 / 32)
