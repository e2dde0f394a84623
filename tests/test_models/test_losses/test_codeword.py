import numpy as np
import pytest
import torch

from mmmaskclip.models.losses import CodewordLoss, codeword_cross_entropy


def _softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def test_against_numpy():
    student, teacher, center = torch.randn(2, 5, 7), torch.randn(2, 5, 7), torch.randn(7)
    loss = codeword_cross_entropy(student, teacher, center, 0.1, 0.05)
    p = _softmax((teacher.double().numpy() - center.double().numpy()) / 0.05)
    log_q = np.log(_softmax(student.double().numpy() / 0.1))
    assert loss.item() == pytest.approx(-(p * log_q).sum(-1).mean(), rel=1e-5)


def test_no_gradient_into_the_teacher():
    student, teacher = (torch.randn(2, 5, 7, requires_grad=True) for _ in range(2))
    codeword_cross_entropy(student, teacher, torch.zeros(7), 0.1, 0.05).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_teacher_temperature_ramps():
    student, teacher = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    loss = CodewordLoss(7, teacher_temperature=dict(begin=0.04, end=0.08)).eval()
    expected = codeword_cross_entropy(student, teacher, torch.zeros(7), 0.1, 0.06)
    torch.testing.assert_close(loss(student, teacher, 0.5), expected)


def test_centre_moves_after_the_step_and_accumulation_is_one_big_batch():
    teacher = torch.randn(4, 5, 7)
    whole, parts = CodewordLoss(7), CodewordLoss(7)
    whole(teacher, teacher, 0.0)
    assert not whole.center.any()
    parts(teacher[:1], teacher[:1], 0.0)
    parts(teacher[1:], teacher[1:], 0.0)
    for loss in (whole, parts):
        loss.after_optimizer_step()
        torch.testing.assert_close(loss.center, 0.1 * teacher.mean((0, 1)))
        assert not loss.pending.any()


def test_evaluation_leaves_the_centre_alone():
    loss = CodewordLoss(7).eval()
    loss(torch.randn(1, 2, 7), torch.randn(1, 2, 7), 0.0)
    assert not loss.pending.any()
