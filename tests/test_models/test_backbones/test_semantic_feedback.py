"""ResCLIP's second pass against a NumPy reference, and where its labels come from."""

import numpy as np
import pytest
import torch
from read_out_references import TOWERS, Reference, blocks_input, make_tower, resclip_twice, semantic_feedback
from torch.nn import functional as F

from mmmaskclip.models.backbones.read_outs import find_read_out
from mmmaskclip.models.backbones.semantic_feedback import SemanticFeedback, same_segment
from mmmaskclip.models.open_vocabulary.pamr import pamr
from mmmaskclip.registry import MODELS


@pytest.mark.parametrize('grid', [(1, 1), (1, 5), (4, 6), (7, 3)], ids=str)
def test_patches_of_one_segment_attend_to_each_other(grid):
    labels = torch.randint(2, (3, grid[0] * grid[1]), generator=torch.Generator().manual_seed(0))
    expected = np.stack([semantic_feedback(one.tolist(), grid) for one in labels])
    np.testing.assert_allclose(same_segment(labels, grid, 5.0).numpy(), expected, rtol=1e-5, atol=1e-7)


def test_a_segment_behind_another_counts_less():
    """Of five patches in a row the outer ones are of one word: not smoothed, the far one has exp(-4 / 4)."""
    found = same_segment(torch.tensor([[0, 1, 1, 1, 0]]), (1, 5), std=0.01)[0]
    expected = torch.tensor([1 / (1 + np.exp(-1)), 0, 0, 0, np.exp(-1) / (1 + np.exp(-1))])
    torch.testing.assert_close(found[0], (expected / expected[0]).float())


@pytest.mark.parametrize('tower', ['plain', 'registers'])
@torch.no_grad()
def test_the_second_pass_equals_the_formula(tower):
    tower = make_tower(**TOWERS[tower])
    images = torch.randn(2, 3, 32, 45)
    labels = torch.randint(3, (2, 24), generator=torch.Generator().manual_seed(1))
    seen = []
    read_out = dict(name='resclip', weight=0.3, gain=2.0)
    feedback = SemanticFeedback(label=lambda patches, grid: [seen.append(patches), labels][1])
    found, grid = tower.dense(images, {**read_out, 'feedback': feedback})
    torch.testing.assert_close(tower.finish(seen[0]), tower.dense(images, read_out)[0])
    reference = Reference(tower)
    expected = np.stack(
        [
            resclip_twice(reference, x, grid, of.tolist())
            for x, of in zip(blocks_input(tower, images), labels, strict=True)
        ]
    )
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5, rtol=1e-4)


def test_settings_that_are_none_are_named():
    with pytest.raises(ValueError, match="feedback has no setting 'treshold': it has weight, gain, std, threshold"):
        find_read_out(dict(name='resclip', feedback=dict(treshold=0.1)))
    with pytest.raises(ValueError, match='needs the class names for it: set it in test_cfg.segmentor.read_out'):
        make_tower().dense(torch.zeros(1, 3, 16, 16), dict(name='resclip', feedback={}))


@pytest.mark.parametrize('refinement', [None, dict(iterations=1, dilations=[1])], ids=['plain', 'refined'])
@torch.no_grad()
def test_the_segmentor_labels_the_patches(tiny_model_cfg, refinement):
    """The label of a patch is that of most of its pixels, of the first pass's maps; the second pass gets it."""
    from mmmaskclip.models.open_vocabulary.segmentor import ZeroShotSegmentor

    torch.manual_seed(0)
    cfg = tiny_model_cfg()
    del cfg['text_encoder']['vocab_size']
    model = MODELS.build(cfg)
    model.init_weights()
    model.eval()
    images = torch.randn(2, 3, 32, 45)
    options = dict(classes=['sky', 'tree', 'road'], templates=['a {}'], queries=dict())
    once = ZeroShotSegmentor(model, read_out='resclip', **options)
    side = model.image_encoder.patch_size[0]
    cosines = torch.einsum('bdhw,kd->bkhw', once.extract_feat(images)[0], once.decode_head.class_embeds)
    maps = F.interpolate(cosines, scale_factor=side, mode='bilinear')
    if refinement:
        maps = pamr(F.pad(images, (0, -45 % side)), maps, **refinement)
    shares = (30 * maps).softmax(1)
    # Half of the pixels are below it.
    threshold = shares.amax(1).median().item() + 1e-6
    pixels = torch.where(shares.amax(1) < threshold, 0, shares.argmax(1)).numpy()
    assert (pixels != shares.argmax(1).numpy()).any()
    labels = [
        [
            np.bincount(image[row : row + side, column : column + side].ravel()).argmax()
            for row in range(0, image.shape[0], side)
            for column in range(0, image.shape[1], side)
        ]
        for image in pixels
    ]
    feedback = SemanticFeedback(label=lambda patches, grid: torch.tensor(np.array(labels)))
    settings = dict(threshold=threshold, scale=30.0, refinement=refinement)
    twice = ZeroShotSegmentor(model, read_out=dict(name='resclip', feedback=settings), **options)
    expected = model.encode_dense(images, dict(name='resclip', feedback=feedback))
    torch.testing.assert_close(twice.extract_feat(images)[0], expected)
    assert not torch.allclose(expected, once.extract_feat(images)[0])
