import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmmaskclip.contracts import Pairs
from mmmaskclip.models.losses import row_chunks
from mmmaskclip.models.losses.contrastive import InfoNCELoss, UniCLLoss
from mmmaskclip.models.losses.sigmoid import SigmoidLoss

ROWS, COLUMNS = 7, 11


def _results(loss, labels):
    """Loss and all gradients for 7 rows of this process among 11."""
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(COLUMNS, 8, generator=generator, requires_grad=True) for _ in range(2))
    first, second = (F.normalize(rows, dim=-1) for rows in (images, texts))
    own = slice(3, 3 + ROWS)
    scale = torch.tensor(14.0, requires_grad=True)
    given = (labels[own], labels) if labels is not None else (None, None)
    value = loss(Pairs(first[own], second[own], first, second, 3, *given), scale)
    (3 * value).backward()
    return [value.detach(), images.grad, texts.grad, scale.grad, *(p.grad for p in loss.parameters())]


@pytest.mark.parametrize('max_logits', [1, 2 * COLUMNS, 3 * COLUMNS + 5])
@pytest.mark.parametrize(
    ('kind', 'labels'),
    [(InfoNCELoss, False), (UniCLLoss, True), (SigmoidLoss, False), (SigmoidLoss, True)],
)
def test_chunks_of_rows_give_loss_and_gradients_of_all(kind, labels, max_logits):
    labels = torch.tensor([0, 1, 1, -1, 2, 0, 1, -1, 2, 2, 3]) if labels else None
    chunked, whole = (_results(kind(max_logits=most), labels) for most in (max_logits, 2**26))
    torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-6)


def test_no_more_logits_than_asked_for_are_held(monkeypatch):
    sizes = []
    cross_entropy = F.cross_entropy
    monkeypatch.setattr(
        F, 'cross_entropy', lambda logits, *a, **k: sizes.append(logits.numel()) or cross_entropy(logits, *a, **k)
    )
    _results(InfoNCELoss(max_logits=2 * COLUMNS), None)
    assert max(sizes) == 2 * COLUMNS
    assert sum(sizes) == 2 * ROWS * COLUMNS


def test_tf32_is_set_for_the_products_alone(monkeypatch):
    seen = []
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    function = row_chunks._RowsInChunks
    apply = function.apply
    monkeypatch.setattr(function, 'apply', lambda *args: seen.append(products.fp32_precision) or apply(*args))
    for tf32 in (False, True):
        _results(InfoNCELoss(max_logits=1, tf32=tf32), None)
    assert seen == [before, before, 'tf32', 'tf32']
    assert products.fp32_precision == before


def test_under_autocast_chunks_stay_float32():
    plain = _results(InfoNCELoss(max_logits=1), None)
    with torch.autocast('cpu', torch.bfloat16):
        cast = _results(InfoNCELoss(max_logits=1), None)
    torch.testing.assert_close(cast, plain, rtol=0, atol=0)
    assert isinstance(InfoNCELoss(), nn.Module)
