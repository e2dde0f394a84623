import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmmaskclip.models.heads import PrototypeHead
from mmmaskclip.models.losses import CodewordLoss
from mmmaskclip.models.objectives.teacher import MomentumCopy, follow


def _softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def test_against_numpy():
    student, teacher, center = torch.randn(2, 5, 7), torch.randn(2, 5, 7), torch.randn(7)
    module = CodewordLoss(7, teacher_temperature=0.05)
    module.center.copy_(center)
    loss = module(student, teacher)
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
    assert loss.all_pairs(student, teacher).item() == pytest.approx(np.mean(pairs), rel=1e-5)
    loss.after_optimizer_step()
    torch.testing.assert_close(loss.center, 0.9 * center + 0.1 * teacher.mean((0, 1)))


def test_no_gradient_into_the_teacher():
    student, teacher = (torch.randn(2, 5, 7, requires_grad=True) for _ in range(2))
    CodewordLoss(7)(student, teacher).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_teacher_temperature_ramps():
    student, teacher = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    loss = CodewordLoss(7, teacher_temperature=dict(begin=0.04, end=0.08)).eval()
    loss.set_progress(0.5)
    expected = CodewordLoss(7, teacher_temperature=0.06)(student, teacher)
    torch.testing.assert_close(loss(student, teacher), expected)


def test_centre_moves_after_the_step_and_accumulation_is_one_big_batch():
    teacher = torch.randn(4, 5, 7)
    whole, parts = CodewordLoss(7), CodewordLoss(7)
    whole(teacher, teacher)
    assert not whole.center.any()
    parts(teacher[:1], teacher[:1])
    parts(teacher[1:], teacher[1:])
    for loss in (whole, parts):
        loss.after_optimizer_step()
        torch.testing.assert_close(loss.center, 0.1 * teacher.mean((0, 1)))
        assert not loss.pending.any()


def test_evaluation_leaves_the_centre_alone():
    loss = CodewordLoss(7).eval()
    loss(torch.randn(1, 2, 7), torch.randn(1, 2, 7))
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
    assert len(target.argmax(dim=-1).unique()) > kinds / 2
