from functools import partial

import pytest
import torch

from mmmaskclip.models.masking import RandomMask


def test_partition_with_the_papers_numbers():
    mask = RandomMask(0.75)(partial(torch.rand, 3), (14, 14))
    assert mask.visible.shape == (3, 49)
    assert mask.masked.shape == (3, 147)
    both = torch.cat((mask.visible, mask.masked), 1).sort(1).values
    assert torch.equal(both, torch.arange(196).expand(3, -1))


def test_every_patch_is_masked_equally_often():
    masked = RandomMask(0.75)(partial(torch.rand, 4000), (4, 4)).masked
    share = torch.bincount(masked.flatten(), minlength=16) / 4000
    assert ((share - 0.75).abs() < 0.03).all()


@pytest.mark.parametrize('ratio', [0, 1, 75])
def test_ratio_outside_of_its_range(ratio):
    with pytest.raises(ValueError, match=f'ratio={ratio}'):
        RandomMask(ratio)


def test_ratio_that_leaves_nothing():
    with pytest.raises(ValueError, match='leaves 0 of 4 patches visible'):
        RandomMask(0.9)(partial(torch.rand, 1), (2, 2))
