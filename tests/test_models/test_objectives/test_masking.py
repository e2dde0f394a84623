import math

import pytest
import torch

from mmmaskclip.models.objectives.masking import BlockMask, RandomMask
from mmmaskclip.models.objectives.noise import IMAGE_MASK_STREAM, sample_noise


def _seeds(count):
    return torch.arange(count) * 2**33 + 7


def test_partition_with_the_papers_numbers():
    mask = RandomMask(0.75)(_seeds(3), (14, 14))
    assert mask.visible.shape == (3, 49)
    assert mask.masked.shape == (3, 147)
    both = torch.cat((mask.visible, mask.masked), 1).sort(1).values
    assert torch.equal(both, torch.arange(196).expand(3, -1))


def test_every_patch_is_masked_equally_often():
    masked = RandomMask(0.75)(_seeds(4000), (4, 4)).masked
    share = torch.bincount(masked.flatten(), minlength=16) / 4000
    assert ((share - 0.75).abs() < 0.03).all()


def test_hidden_says_which_patches_are_masked():
    mask = RandomMask(0.75)(_seeds(3), (4, 4))
    expected = torch.zeros(3, 16, dtype=torch.bool).scatter(1, mask.masked, True)
    assert torch.equal(mask.hidden, expected)


@pytest.mark.parametrize('ratio', [0, 1, 75])
def test_ratio_outside_of_its_range(ratio):
    with pytest.raises(ValueError, match=f'ratio={ratio}'):
        RandomMask(ratio)


def test_ratio_that_leaves_nothing():
    with pytest.raises(ValueError, match='leaves 0 of 4 patches visible'):
        RandomMask(0.9)(_seeds(1), (2, 2))


def _reference_block_mask(noise, grid, num_masked, least, min_aspect):
    """BEiT's rectangles one after the other, in plain Python: (hidden for sure, the rectangle that was cut)."""
    hidden = set()
    for u_area, u_aspect, u_top, u_left in noise.T.tolist():
        area = least + u_area * (num_masked - least)
        aspect = math.exp((2 * u_aspect - 1) * -math.log(min_aspect))
        height = min(max(round(math.sqrt(area * aspect)), 1), grid[0])
        width = min(max(round(math.sqrt(area / aspect)), 1), grid[1])
        top, left = int(u_top * (grid[0] - height + 1)), int(u_left * (grid[1] - width + 1))
        new = {
            row * grid[1] + column for row in range(top, top + height) for column in range(left, left + width)
        } - hidden
        if len(hidden) + len(new) >= num_masked:
            return hidden, new
        hidden |= new
    return hidden, set(range(grid[0] * grid[1])) - hidden


@pytest.mark.parametrize('grid', [(14, 14), (6, 10), (4, 4)])
def test_block_mask_is_the_rectangles_in_order_with_the_last_one_cut(grid):
    mask, count = BlockMask(), grid[0] * grid[1]
    noise = sample_noise(_seeds(50), 4 * mask.num_rectangles + count, IMAGE_MASK_STREAM)
    masked = mask(_seeds(50), grid).masked
    num_masked = count - int(count * 0.6)
    for row, chosen in zip(noise, masked.tolist(), strict=True):
        rectangles = row[: 4 * mask.num_rectangles].unflatten(0, (4, -1))
        sure, cut = _reference_block_mask(rectangles, grid, num_masked, min(16, num_masked), 0.3)
        assert len(chosen) == num_masked
        assert sure <= set(chosen) <= sure | cut


def test_block_mask_is_a_partition_with_equal_numbers_and_follows_its_seed():
    mask = BlockMask(0.4)(_seeds(3), (14, 14))
    assert mask.visible.shape == (3, 117)
    both = torch.cat((mask.visible, mask.masked), 1).sort(1).values
    assert torch.equal(both, torch.arange(196).expand(3, -1))
    alone = BlockMask(0.4)(_seeds(3)[1:2], (14, 14))
    assert torch.equal(alone.masked, mask.masked[1:2])


def test_block_mask_hides_neighbours_together():
    """Hidden patches have more hidden neighbours than under a random mask of the same ratio."""

    def share(mask):
        hidden = torch.zeros(200, 196).scatter(1, mask(_seeds(200), (14, 14)).masked, 1).view(-1, 14, 14)
        return (hidden[:, 1:] * hidden[:, :-1]).sum() / hidden[:, 1:].sum()

    assert share(RandomMask(0.4)) == pytest.approx(0.4, abs=0.02)
    assert share(BlockMask(0.4)) > 0.7


@pytest.mark.parametrize(('ratio', 'grid'), [(0.95, (14, 14)), (0.4, (1, 5)), (0.5, (2, 2))])
def test_block_mask_of_extreme_shapes(ratio, grid):
    mask = BlockMask(ratio)(_seeds(20), grid)
    count = grid[0] * grid[1]
    assert mask.masked.shape[1] == count - int(count * (1 - ratio))
    assert all(len(set(row)) == len(row) for row in mask.masked.tolist())


@pytest.mark.parametrize('argument', [dict(ratio=1.0), dict(min_patches=0), dict(min_aspect=1.5)])
def test_block_mask_names_what_is_out_of_range(argument):
    with pytest.raises(ValueError, match='='.join(map(str, *argument.items()))):
        BlockMask(**argument)
