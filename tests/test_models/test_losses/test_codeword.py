import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmmaskclip.contracts import Similarities
from mmmaskclip.models.heads import PrototypeHead
from mmmaskclip.models.losses import CodewordLoss
from mmmaskclip.models.objectives.teacher import MomentumCopy, follow


def _similarities(values):
    """Any similarities (..., K), as those of tokens to the axes of their space."""
    return Similarities(values, torch.eye(values.shape[-1]))


def _softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def test_against_numpy():
    student, teacher, center = torch.randn(2, 5, 7), torch.randn(2, 5, 7), torch.randn(7)
    module = CodewordLoss(7, teacher_temperature=0.05)
    module.center.copy_(center)
    loss = module(_similarities(student), _similarities(teacher))
    p = _softmax((teacher.double().numpy() - center.double().numpy()) / 0.05)
    log_q = np.log(_softmax(student.double().numpy() / 0.1))
    assert loss.item() == pytest.approx(-(p * log_q).sum(-1).mean(), rel=1e-5)


def test_all_pairs_is_the_mean_over_pairs():
    student, teacher, center = torch.randn(2, 3, 7), torch.randn(2, 4, 7), torch.randn(7)
    loss = CodewordLoss(7, teacher_temperature=0.05)
    loss.center.copy_(center)
    p = _softmax((teacher.double().numpy() - center.double().numpy()) / 0.05)
    log_q = np.log(_softmax(student.double().numpy() / 0.1))
    pairs = [-(p[b, g] * log_q[b, n]).sum() for b in range(2) for g in range(4) for n in range(3)]
    assert loss.all_pairs(_similarities(student), _similarities(teacher)).item() == pytest.approx(
        np.mean(pairs), rel=1e-5
    )
    loss.after_optimizer_step()
    torch.testing.assert_close(loss.center, 0.9 * center + 0.1 * teacher.mean((0, 1)))


def test_no_gradient_into_the_teacher():
    student, teacher = (torch.randn(2, 5, 7, requires_grad=True) for _ in range(2))
    CodewordLoss(7)(_similarities(student), _similarities(teacher)).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_teacher_temperature_ramps():
    student, teacher = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    loss = CodewordLoss(7, teacher_temperature=dict(begin=0.04, end=0.08)).eval()
    loss.set_progress(0.5)
    expected = CodewordLoss(7, teacher_temperature=0.06)(_similarities(student), _similarities(teacher))
    torch.testing.assert_close(loss(_similarities(student), _similarities(teacher)), expected)


def test_centre_moves_after_the_step_and_accumulation_is_one_big_batch():
    teacher = torch.randn(4, 5, 7)
    whole, parts = CodewordLoss(7), CodewordLoss(7)
    whole(_similarities(teacher), _similarities(teacher))
    assert not whole.center.any()
    parts(_similarities(teacher[:1]), _similarities(teacher[:1]))
    parts(_similarities(teacher[1:]), _similarities(teacher[1:]))
    for loss in (whole, parts):
        loss.after_optimizer_step()
        torch.testing.assert_close(loss.center, 0.1 * teacher.mean((0, 1)))
        assert not loss.pending.any()


def test_evaluation_leaves_the_centre_alone():
    loss = CodewordLoss(7).eval()
    loss(_similarities(torch.randn(1, 2, 7)), _similarities(torch.randn(1, 2, 7)))
    assert not loss.pending.any()


def test_a_step_without_tokens_leaves_the_centre_alone():
    loss = CodewordLoss(7)
    loss.center.fill_(0.5)
    loss.after_optimizer_step()
    assert (loss.center == 0.5).all()


def test_distinct_features_get_distinct_codewords():
    """Teacher and student from one start must break the symmetry: features with a common mean are the hard case."""
    kinds, codewords, steps = 16, 64, 80
    features = torch.randn(kinds, 32) + 3 * torch.randn(32)
    head = PrototypeHead(32, num_prototypes=codewords, hidden_channels=64, bottleneck_channels=32)
    head.init_weights()
    teacher, loss = MomentumCopy(head), CodewordLoss(codewords)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    for step in range(steps):
        student_view, teacher_view = (
            F.layer_norm(features + 0.3 * torch.randn_like(features), (32,)) for _ in range(2)
        )
        target = teacher(teacher_view)
        loss.set_progress(step / steps)
        value = loss(head(student_view), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        follow([teacher], 0.95)
        loss.after_optimizer_step()
    assert value.item() < 0.5 * np.log(codewords)
    # Low loss by one codeword for everything would be the other collapse.
    assert len(target.whole().argmax(dim=-1).unique()) > kinds / 2


def _features(*shape):
    return F.normalize(torch.randn(*shape), dim=-1).requires_grad_()


def _run(loss, student, teacher, scale):
    """Loss, gradients of tokens and codewords, and the new centre."""
    torch.manual_seed(1)
    parts = student.features, student.codewords
    value = loss(student, teacher)
    gradients = torch.autograd.grad(scale * value, parts)
    (perplexity,) = loss.logged().values()
    loss.after_optimizer_step()
    return value.detach(), *gradients, perplexity, loss.center


def test_chunks_give_loss_gradients_and_centre_of_the_whole():
    """The computation of today, all logits at once, is the reference; 11 tokens in chunks of 3 leave a rest."""
    student, teacher = (
        Similarities(_features(11, 6), _features(20, 6)),
        Similarities(_features(11, 6), _features(20, 6)),
    )
    center = 0.1 * torch.randn(20)
    results = []
    for max_logits in (2**26, 60, 1):
        loss = CodewordLoss(20, max_logits=max_logits)
        loss.center.copy_(center)
        results.append(_run(loss, student, teacher, scale=3.0))
    for chunked in results[1:]:
        torch.testing.assert_close(chunked, results[0], rtol=1e-5, atol=1e-6)
    assert teacher.features.grad is None


def test_chunks_are_float32_under_autocast():
    student, teacher = Similarities(_features(4, 6), _features(20, 6)), Similarities(_features(4, 6), _features(20, 6))
    loss = CodewordLoss(20, max_logits=20).eval()
    exact = loss(student, teacher)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(loss(student, teacher), exact, rtol=0, atol=0)


def test_log_perplexity_tells_collapse_from_even_use():
    loss = CodewordLoss(8, teacher_temperature=0.01)
    assert loss.logged() == {}
    loss(_similarities(torch.eye(8)), _similarities(torch.eye(8)))
    assert loss.logged()['codeword_log_perplexity'].item() == pytest.approx(np.log(8), rel=1e-4)
    same = torch.eye(8)[:1].expand(8, -1)
    loss(_similarities(same), _similarities(same))
    assert loss.logged()['codeword_log_perplexity'].item() == pytest.approx(0, abs=1e-4)


def test_views_in_chunks_of_images_equal_all_at_once():
    """Images of three student and two teacher views, an uneven last chunk; loss, gradients, centre and perplexity."""
    results = []
    for max_logits in (2 * 3 * 20 + 7, 2**26):
        torch.manual_seed(0)
        student, teacher = (F.normalize(torch.randn(5, views, 8), dim=-1) for views in (3, 2))
        codewords, fixed = (F.normalize(torch.randn(20, 8), dim=-1) for _ in range(2))
        student.requires_grad_()
        codewords.requires_grad_()
        loss = CodewordLoss(20, max_logits=max_logits)
        torch.nn.init.normal_(loss.center, std=0.1)
        value = loss.all_pairs(Similarities(student, codewords), Similarities(teacher, fixed))
        (2 * value).backward()
        results.append([value.detach(), student.grad, codewords.grad, loss.pending, *loss.logged().values()])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
