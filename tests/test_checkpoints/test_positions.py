"""Text positions stretched for long captions, against NumPy."""

import numpy as np
import pytest
import tiny_models
import torch

from mmmaskclip.checkpoints.positions import stretch_positions
from mmmaskclip.checkpoints.weights import load_all, load_what_fits
from mmmaskclip.registry import MODELS


def reference(positions, length, keep=20):
    """Row by row: the old place of each new position, between two old ones or behind the last."""
    rows = [positions[i] for i in range(keep)]
    ratio = (length - keep) / (len(positions) - keep)
    for new in range(length - keep):
        place = keep + new / ratio
        if place >= len(positions) - 1:
            step = positions[-1] - positions[-2]
            rows.append(positions[-1] + (place - (len(positions) - 1)) * step)
        else:
            left = int(np.floor(place))
            rows.append(positions[left] + (place - left) * (positions[left + 1] - positions[left]))
    return np.stack(rows)


@pytest.mark.parametrize(('old', 'length'), [(77, 248), (77, 100), (30, 77), (77, 77)])
def test_against_numpy(old, length):
    positions = np.random.default_rng(0).normal(size=(old, 6))
    found = stretch_positions(torch.tensor(positions), length)
    np.testing.assert_allclose(found.numpy(), reference(positions, length), atol=1e-12)
    assert np.array_equal(found[:20].numpy(), positions[:20])


def test_at_four_times_the_length_every_fourth_is_an_old_one():
    positions = torch.randn(77, 6)
    assert torch.allclose(stretch_positions(positions, 248)[20::4], positions[20:], atol=1e-6)


def test_what_cannot_be_stretched_is_named():
    with pytest.raises(ValueError, match='77 text positions cannot be stretched to 60'):
        stretch_positions(torch.zeros(77, 2), 60)


def test_a_longer_tower_takes_shorter_weights():
    def build(**options):
        cfg = tiny_models.model()
        cfg['text_encoder'].update(options)
        return MODELS.build(cfg)

    short = build(context_length=30)
    torch.nn.init.normal_(short.text_encoder.pos_embed)
    expected = reference(short.text_encoder.pos_embed.detach().numpy(), 50)
    for load in (load_what_fits, load_all):
        long = build(context_length=50, stretch_positions=True)
        load(long, short.state_dict(), 'a.pth')
        np.testing.assert_allclose(long.text_encoder.pos_embed.detach().numpy(), expected, atol=1e-6)
        with pytest.raises(ValueError, match='pos_embed'):
            load(build(context_length=50), short.state_dict(), 'a.pth')
