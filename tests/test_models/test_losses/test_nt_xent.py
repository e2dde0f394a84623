import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmmaskclip.contracts import Pairs
from mmmaskclip.models.losses import NTXentLoss


def _embeddings(count=6):
    return (F.normalize(torch.randn(count, 8), dim=-1) for _ in range(2))


def _loss(first, second):
    return NTXentLoss()(Pairs(first, second, first, second))


def _reference(first, second, temperature, rows):
    """SimCLR, Eq. 1, pair by pair."""
    views, total, losses = np.concatenate([first, second]), len(first), []
    for view in [*rows, *(i + total for i in rows)]:
        other = (view + total) % (2 * total)
        similarity = np.exp(views @ views[view] / temperature)
        losses.append(-np.log(similarity[other] / (similarity.sum() - similarity[view])))
    return np.mean(losses)


@pytest.mark.parametrize('rows', [range(6), range(2, 5)])
def test_against_numpy(rows):
    first, second = _embeddings()
    own = slice(rows.start, rows.stop)
    for temperature in (0.1, 0.5):
        ours = NTXentLoss(temperature)(Pairs(first[own], second[own], first, second, rows.start))
        reference = _reference(first.double().numpy(), second.double().numpy(), temperature, rows)
        assert ours.item() == pytest.approx(reference, rel=1e-5)


def test_against_mmpretrains_simclr():
    head = pytest.importorskip('mmpretrain.models.heads').ContrastiveHead
    first, second = _embeddings()
    views = torch.stack((first, second), dim=1).flatten(0, 1)  # mmpretrain interleaves the views
    similarity = views @ views.t()
    others = ~torch.eye(12, dtype=torch.bool)
    partner = torch.arange(12) ^ 1
    positive = similarity[torch.arange(12), partner].unsqueeze(1)
    others[torch.arange(12), partner] = False
    negative = similarity[others].reshape(12, -1)
    expected = head(loss=dict(type='mmpretrain.CrossEntropyLoss'), temperature=0.1).loss(positive, negative)
    torch.testing.assert_close(_loss(first, second), expected)


def test_symmetrical_in_the_views():
    first, second = _embeddings()
    torch.testing.assert_close(_loss(first, second), _loss(second, first))


def test_both_views_get_gradient():
    first, second = (x.requires_grad_() for x in _embeddings())
    _loss(first, second).backward()
    for gradient in (first.grad, second.grad):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum(dim=1).min() > 0


def test_one_image_has_no_loss_and_no_nan():
    first, second = (x.requires_grad_() for x in _embeddings(1))
    loss = _loss(first, second)
    loss.backward()
    assert loss.item() == 0
    assert first.grad.abs().sum() == 0


def test_images_all_alike_give_the_log_of_the_others():
    first, _ = _embeddings()
    same = first[:1].expand(6, -1)
    assert _loss(same, same).item() == pytest.approx(np.log(11), rel=1e-5)


def test_float32_under_autocast():
    first, second = _embeddings()
    exact = _loss(first, second)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(_loss(first, second), exact)
