"""Read-outs against NumPy references written from the papers' formulas, on random weights, tower by tower."""

import numpy as np
import pytest
import torch
from read_out_references import (
    LAST,
    REFERENCES,
    TOWERS,
    Reference,
    blocks_input,
    make_tower,
    outlier_factors,
    softmax,
)
from scipy.special import erf
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mmmaskclip.models.backbones.outlier_patches import local_outlier_factors
from mmmaskclip.models.backbones.read_outs import READ_OUTS, find_read_out
from mmmaskclip.models.backbones.register_neurons import find_register_neurons
from mmmaskclip.models.backbones.semantic_feedback import SemanticFeedback
from mmmaskclip.registry import MODELS


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
@torch.no_grad()
def test_any_grid_batch_and_precision(name):
    """One patch, one row, odd sides and sides that are filled up; alone as in a batch, in half precision as in full."""
    tower = make_tower(num_registers=1)
    for height, width in ((8, 8), (8, 40), (24, 56), (56, 23), (41, 33)):
        images = torch.randn(2, 3, height, width)
        both, grid = tower.dense(images, name)
        assert grid == (-(-height // 8), -(-width // 8))
        assert both.shape == (2, grid[0] * grid[1], 32)
        torch.testing.assert_close(tower.dense(images[1:], name)[0], both[1:], rtol=1e-4, atol=1e-5)
        for precision in (torch.bfloat16, torch.float16):
            with torch.autocast('cpu', precision):
                half = tower.dense(images, name)[0].float()
            assert half.isfinite().all()
            assert nn.functional.cosine_similarity(half, both, dim=-1).min() > 0.99


@torch.no_grad()
def test_none_costs_twice_the_plain_pass():
    """Counted on ViT-B/16 at 224 px without computing anything; what docs/dense.md says in GFLOP."""

    def cost(read_out, windows=1):
        with FlopCounterMode(display=False) as counter:
            tower.dense(torch.empty(windows, 3, 224, 224), read_out)
        return counter.get_total_flops() / 1e9

    places = [(row, column) for row in (0, 7, 14) for column in (0, 7, 14)]
    with FakeTensorMode():
        tower = MODELS.build(dict(type='CLIPVisionTransformer', arch='ViT-B/16')).eval()
        costs = {name: cost(name) for name in REFERENCES}
        feedback = SemanticFeedback(label=lambda patches, grid: torch.zeros(1, 196, dtype=torch.long))
        costs['resclip twice'] = cost(dict(name='resclip', feedback=feedback))
        stitched = cost(dict(name='kk', windows=places), 9)
    assert max(costs.values()) < 1.1 * costs['patch']
    of_the_page = {
        'patch': 33.7, 'value': 33.7, 'qq': 32.0, 'kk': 32.0, 'vv': 32.0, 'csa': 33.9, 'naclip': 32.0, 'resclip': 34.2,
        'resclip twice': 34.5, 'self_calibrated': 33.2,
    }  # fmt: skip
    assert {name: round(costs[name], 1) for name in of_the_page} == of_the_page
    assert stitched < 1.1 * 9 * costs['kk']


def test_unknown_read_outs_and_options_are_named():
    with pytest.raises(ValueError, match="read_out='key': choose one of patch, value, qq"):
        find_read_out('key')
    with pytest.raises(ValueError, match="read_out 'value' has no option 'std': it has none"):
        find_read_out(dict(name='value', std=5))


@pytest.mark.parametrize('name', ['resclip', 'self_calibrated'])
def test_what_reads_earlier_blocks_says_that_a_tower_has_none(name):
    blocks, x = [nn.Identity()], torch.zeros(1, 5, 4)
    with pytest.raises(ValueError, match=f"read_out='{name}' reads blocks before the last, and the tower has 1"):
        READ_OUTS[name](blocks, x, (2, 2))


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


@pytest.mark.parametrize('name', REFERENCES)
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


def stitched(reference, inputs, places, grid, name):
    """Every window's tokens see their own class token and registers, and the patches of all windows."""
    extra, count = reference.extra, grid[0] * grid[1]
    before = [reference.until(x, LAST) for x in inputs]
    heads = [reference.qkv(x, LAST) for x in before]
    cells = np.array(list(np.ndindex(*grid)))
    everywhere = np.concatenate([place + cells for place in np.array(places)])
    result = []
    for x, own, place in zip(before, heads, np.array(places), strict=True):
        seen = np.concatenate([own[:, :, :extra], *(other[:, :, extra:] for other in heads)], axis=2)

        def scores(a, b, own=own, seen=seen):
            return own[a] @ seen[b].swapaxes(1, 2) / np.sqrt(own.shape[-1])

        if name == 'naclip':
            bias = np.zeros(scores(1, 1).shape[1:])
            apart = ((place + cells)[:, None] - everywhere[None]) ** 2
            bias[extra:, extra:] = np.exp(-apart.sum(-1) / 50)
            weights = softmax(scores(1, 1) + bias)
        else:
            weights = {
                'patch': lambda: softmax(scores(0, 1)),
                'vv': lambda: softmax(scores(2, 2)),
                'csa': lambda: softmax(scores(0, 0)) + softmax(scores(1, 1)),
            }[name]()
        added = reference.project(weights @ seen[2], LAST)
        if name in ('patch', 'csa'):
            x = x + added
            added = x + reference.feed_forward(x, LAST)
        result.append(reference.finish(added))
        assert result[-1].shape[0] == count
    return np.stack(result)


@pytest.mark.parametrize('tower', ['plain', 'registers'])
@pytest.mark.parametrize('name', ['patch', 'vv', 'csa', 'naclip'])
def test_windows_of_one_image_are_stitched(name, tower):
    tower = make_tower(**TOWERS[tower])
    images, places = torch.randn(3, 3, 24, 32), [(0.0, 0.0), (0.0, 2.0), (1.5, 3.25)]
    with torch.no_grad():
        found, grid = tower.dense(images, dict(name=name, windows=places))
    expected = stitched(Reference(tower), blocks_input(tower, images), places, grid, name)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5, rtol=1e-4)
    with torch.no_grad():  # one window is the whole image
        one = tower.dense(images[:1], dict(name=name, windows=[(0, 0)]))[0]
        torch.testing.assert_close(one, tower.dense(images[:1], name)[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match='2 windows for 3 images'):
        tower.dense(images, dict(name=name, windows=places[:2]))
    with pytest.raises(ValueError, match="'resclip' takes its weights from blocks before the last"):
        find_read_out(dict(name='resclip', windows=places))
