import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmmaskclip.contracts import Pairs
from mmmaskclip.models.losses import InfoNCELoss, SigmoidLoss, UniCLLoss

LABELS = [3, -1, 3, 0, -1, 3]


def _embeddings(count=6):
    return (F.normalize(torch.randn(count, 8), dim=-1) for _ in range(2))


def _direction(rows, columns, scale, labels, own):
    """UniCL, Eq. 3: for each row the mean over its positives of the negative log-softmax."""
    losses = []
    for i in own:
        logits = scale * columns @ rows[i]
        log_softmax = logits - np.log(np.exp(logits).sum())
        positives = [k for k in range(len(labels)) if k == i or (labels[i] >= 0 and labels[k] == labels[i])]
        losses.append(-np.mean([log_softmax[k] for k in positives]))
    return np.mean(losses)


@pytest.mark.parametrize('rows', [range(6), range(2, 5)])
def test_against_numpy(rows):
    image, text = _embeddings()
    labels, own = torch.tensor(LABELS), slice(rows.start, rows.stop)
    pairs = Pairs(image[own], text[own], image, text, rows.start, labels[own], labels)
    ours = UniCLLoss('sum')(pairs, torch.tensor(14.0)).item()
    x, y = image.double().numpy(), text.double().numpy()
    reference = [_direction(x, y, 14.0, LABELS, rows), _direction(y, x, 14.0, LABELS, rows)]
    assert ours == pytest.approx(sum(reference), rel=1e-5)


def test_two_kinds_of_label_against_numpy():
    """The first and second row share an image, the second and fourth a caption: the first and fourth nothing."""
    image, text = _embeddings(4)
    labels = np.array([[1, 5], [1, 6], [2, 7], [3, 6]])
    belong = (labels[:, None] == labels).any(-1) | np.eye(4, dtype=bool)
    assert belong.sum(1).tolist() == [2, 3, 1, 2]
    x, y, expected = image.double().numpy(), text.double().numpy(), 0.0
    for rows, columns in ((x, y), (y, x)):
        logits = 9.0 * rows @ columns.T
        log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        expected -= np.mean([log_softmax[i][belong[i]].mean() for i in range(4)]) / 2
    keys = torch.tensor(labels)
    pairs = Pairs(image, text, image, text, 0, keys, keys)
    assert InfoNCELoss()(pairs, torch.tensor(9.0)).item() == pytest.approx(expected, rel=1e-5)
    signs = np.where(belong, 1, -1)
    sigmoid = np.log1p(np.exp(-signs * (9.0 * x @ y.T - 3))).sum() / 4
    assert SigmoidLoss(init_bias=-3.0)(pairs, torch.tensor(9.0)).item() == pytest.approx(sigmoid, rel=1e-5)


@pytest.mark.parametrize('labels', [[-1] * 6, [5, 4, 3, 2, 1, 0]])
def test_without_common_labels_it_is_info_nce(labels):
    image, text = _embeddings()
    labels = torch.tensor(labels)
    pairs = Pairs(image, text, image, text, 0, labels, labels)
    torch.testing.assert_close(UniCLLoss()(pairs, torch.tensor(10.0)), InfoNCELoss()(pairs, torch.tensor(10.0)))


def test_reductions():
    image, text = _embeddings()
    labels = torch.tensor(LABELS)
    args = (Pairs(image, text, image, text, 0, labels, labels), torch.tensor(10.0))
    torch.testing.assert_close(UniCLLoss('mean')(*args), UniCLLoss('sum')(*args) / 2)
    with pytest.raises(ValueError, match="reduction='max'"):
        UniCLLoss('max')


def test_one_class_with_equal_texts_is_the_log_of_their_number():
    _, text = _embeddings()
    same, labels = text[:1].expand(6, -1), torch.zeros(6, dtype=torch.int64)
    loss = UniCLLoss('sum')(Pairs(same, same, same, same, 0, labels, labels), torch.tensor(100.0))
    assert loss.item() == pytest.approx(2 * np.log(6), abs=1e-5)


def test_one_sample_has_no_loss():
    image, text = _embeddings(1)
    labels = torch.tensor([2])
    assert UniCLLoss()(Pairs(image, text, image, text, 0, labels, labels), torch.tensor(100.0)).item() == 0


def test_float32_under_autocast():
    image, text = _embeddings()
    labels = torch.tensor(LABELS)
    args = (Pairs(image, text, image, text, 0, labels, labels), torch.tensor(100.0))
    exact = UniCLLoss()(*args)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(UniCLLoss()(*args), exact)
