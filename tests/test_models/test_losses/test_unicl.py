import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmmaskclip.models.losses import UniCLLoss, info_nce, unicl

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
    scale = torch.tensor(14.0)
    ours = unicl(image[own], text[own], image, text, scale, rows.start, labels[own], labels)
    x, y = image.double().numpy(), text.double().numpy()
    reference = [_direction(x, y, 14.0, LABELS, rows), _direction(y, x, 14.0, LABELS, rows)]
    np.testing.assert_allclose(torch.stack(ours).numpy(), reference, rtol=1e-5)


@pytest.mark.parametrize('labels', [[-1] * 6, [5, 4, 3, 2, 1, 0]])
def test_without_common_labels_it_is_info_nce(labels):
    image, text = _embeddings()
    labels = torch.tensor(labels)
    ours = unicl(image, text, image, text, torch.tensor(10.0), 0, labels, labels)
    torch.testing.assert_close(ours, info_nce(image, text, image, text, torch.tensor(10.0)))


def test_reductions():
    image, text = _embeddings()
    labels = torch.tensor(LABELS)
    args = (image, text, image, text, torch.tensor(10.0), 0, labels, labels)
    torch.testing.assert_close(UniCLLoss('sum')(*args), sum(unicl(*args)))
    torch.testing.assert_close(UniCLLoss('mean')(*args), sum(unicl(*args)) / 2)
    with pytest.raises(ValueError, match="reduction='max'"):
        UniCLLoss('max')


def test_one_class_with_equal_texts_is_the_log_of_their_number():
    image, text = _embeddings()
    same, labels = text[:1].expand(6, -1), torch.zeros(6, dtype=torch.int64)
    to_text, _ = unicl(image, same, image, same, torch.tensor(100.0), 0, labels, labels)
    assert to_text == pytest.approx(np.log(6), abs=1e-5)


def test_one_sample_has_no_loss():
    image, text = _embeddings(1)
    labels = torch.tensor([2])
    assert UniCLLoss()(image, text, image, text, torch.tensor(100.0), 0, labels, labels).item() == 0


def test_float32_under_autocast():
    image, text = _embeddings()
    labels = torch.tensor(LABELS)
    args = (image, text, image, text, torch.tensor(100.0), 0, labels, labels)
    exact = UniCLLoss()(*args)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(UniCLLoss()(*args), exact)
