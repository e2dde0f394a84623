import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmmaskclip.contracts import Pairs
from mmmaskclip.models.losses import InfoNCELoss, similarity_logits


def _reference(image, text, scale, rows):
    logits = scale * image @ text.T

    def direction(logits):
        logits = logits - logits.max(1, keepdims=True)
        return np.mean([np.log(np.exp(logits[i]).sum()) - logits[i, i] for i in rows])

    return direction(logits), direction(logits.T)


def _embeddings(count=6):
    return (F.normalize(torch.randn(count, 8), dim=-1) for _ in range(2))


@pytest.mark.parametrize('rows', [range(6), range(2, 5)])
def test_against_numpy(rows):
    image, text = _embeddings()
    own = slice(rows.start, rows.stop)
    pairs = Pairs(image[own], text[own], image, text, rows.start)
    ours = InfoNCELoss('sum')(pairs, torch.tensor(14.0)).item()
    reference = _reference(image.double().numpy(), text.double().numpy(), 14.0, rows)
    assert ours == pytest.approx(sum(reference), rel=1e-5)


def test_reductions():
    image, text = _embeddings()
    args = (Pairs(image, text, image, text), torch.tensor(10.0))
    torch.testing.assert_close(InfoNCELoss('mean')(*args), InfoNCELoss('sum')(*args) / 2)
    with pytest.raises(ValueError, match="reduction='max'"):
        InfoNCELoss('max')


def test_logits_stay_float32_under_autocast():
    image, text = _embeddings()
    exact = 100.0 * image @ text.t()
    with torch.autocast('cpu', torch.bfloat16):
        logits = similarity_logits(image, text, torch.tensor(100.0))
        assert not torch.allclose((100.0 * image @ text.t()).float(), exact, atol=1e-2)
    torch.testing.assert_close(logits, exact)


def test_identical_captions_give_the_log_of_their_number():
    _, text = _embeddings()
    same = text[:1].expand(6, -1)
    loss = InfoNCELoss('sum')(Pairs(same, same, same, same), torch.tensor(100.0))
    assert loss.item() == pytest.approx(2 * np.log(6), abs=1e-5)


def test_one_pair_has_no_loss():
    image, text = _embeddings(1)
    assert InfoNCELoss()(Pairs(image, text, image, text), torch.tensor(100.0)).item() == 0
