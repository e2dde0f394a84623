"""Several read-outs at once."""

import pytest
import torch

from mmmaskclip.models.backbones.mixed_read_outs import weighted_read_outs
from mmmaskclip.registry import MODELS


def test_one_has_all_the_weight():
    assert weighted_read_outs('value') == [(1.0, 'value')]
    assert weighted_read_outs(dict(name='naclip', std=2.0)) == [(1.0, dict(name='naclip', std=2.0))]


def test_weights_sum_to_one_and_options_stay():
    mixed = weighted_read_outs([dict(name='patch', weight=3), dict(name='naclip', std=2.0)])
    assert mixed == [(0.75, dict(name='patch')), (0.25, dict(name='naclip', std=2.0))]


@pytest.mark.parametrize(
    ('read_outs', 'message'),
    [
        ([], r'read_out=\[\] names no read-out'),
        (['patch', dict(name='value', weight=0)], "'value' has weight=0: give a positive one"),
        (['patch', 'valu'], "read_out='valu': choose one of"),
        ([dict(name='patch', std=1)], "'patch' has no option 'std'"),
        (dict(name='patch', weight=1), "'patch' has no option 'weight'"),
    ],
)
def test_mistakes_are_named(read_outs, message):
    with pytest.raises(ValueError, match=message):
        weighted_read_outs(read_outs)


@torch.no_grad()
def test_dense_embedding_is_the_mean_and_shorter_where_they_disagree(tiny_model_cfg):
    model = MODELS.build(tiny_model_cfg()).eval()
    model.init_weights()
    images = torch.randn(2, 3, 32, 32)
    mixed = model.encode_dense(images, [dict(name='patch', weight=3), 'value'])
    patch, value = (model.encode_dense(images, name) for name in ('patch', 'value'))
    torch.testing.assert_close(mixed, 0.75 * patch + 0.25 * value)
    assert not torch.allclose(patch, value, atol=1e-3)
    assert (mixed.norm(dim=1) < 1).all()
