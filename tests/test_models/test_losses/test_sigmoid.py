import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmmaskclip.contracts import Pairs
from mmmaskclip.models.losses import SigmoidLoss


def _embeddings(count=6):
    return (F.normalize(torch.randn(count, 8), dim=-1) for _ in range(2))


def _reference(image, text, scale, bias, rows):
    total = 0.0
    for i in rows:
        for j in range(len(text)):
            sign = 1 if i == j else -1
            total += np.log1p(np.exp(-sign * (scale * image[i] @ text[j] + bias)))
    return total / len(rows)


@pytest.mark.parametrize('rows', [range(6), range(2, 5)])
def test_against_numpy(rows):
    image, text = _embeddings()
    own = slice(rows.start, rows.stop)
    ours = SigmoidLoss(init_bias=-3.0)(Pairs(image[own], text[own], image, text, rows.start), torch.tensor(10.0))
    reference = _reference(image.double().numpy(), text.double().numpy(), 10.0, -3.0, rows)
    assert ours.item() == pytest.approx(reference, rel=1e-5)


def test_bias_and_temperature_learn():
    image, text = _embeddings()
    loss, scale = SigmoidLoss(), torch.tensor(10.0, requires_grad=True)
    loss(Pairs(image, text, image, text), scale).backward()
    assert loss.bias.item() == -10
    assert loss.bias.grad.abs() > 0
    assert scale.grad.abs() > 0


def test_one_pair_is_a_question_too():
    image, text = _embeddings(1)
    loss = SigmoidLoss(init_bias=0.0)(Pairs(image, image, image, image), torch.tensor(2.0))
    assert loss.item() == pytest.approx(np.log1p(np.exp(-2)), rel=1e-5)


def test_identical_captions():
    # The best one can do is the same answer for all pairs: probability 1 / 6 for each.
    image, text = _embeddings()
    same = image[:1].expand(6, -1)
    answer = float(np.log(1 / 6) - np.log(5 / 6))
    loss = SigmoidLoss(init_bias=answer - 1)(Pairs(same, same, same, same), torch.tensor(1.0))
    assert loss.item() == pytest.approx(-(np.log(1 / 6) + 5 * np.log(5 / 6)), rel=1e-5)


def test_float32_and_finite_under_autocast():
    image, text = _embeddings()
    args = (Pairs(image, text, image, text), torch.tensor(100.0))
    exact = SigmoidLoss()(*args)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(SigmoidLoss()(*args), exact)
    assert torch.isfinite(SigmoidLoss(init_bias=-1e4)(*args))
