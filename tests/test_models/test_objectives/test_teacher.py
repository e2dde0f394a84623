import torch
from torch import nn

from mmmaskclip.models.objectives.teacher import MomentumCopy, follow
from mmmaskclip.registry import MODELS


def test_follow_is_the_papers_equation():
    source = nn.Linear(3, 2)
    copy = MomentumCopy(source)
    start = copy.module.weight.clone()
    with torch.no_grad():
        source.weight.add_(1)
    follow([copy], 0.9)
    torch.testing.assert_close(copy.module.weight, 0.9 * start + 0.1 * source.weight)


def test_frozen_in_eval_mode_and_without_gradient():
    copy = MomentumCopy(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)))
    copy.train()
    assert not any(module.training for module in copy.modules())
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    assert not copy(torch.randn(2, 3, requires_grad=True)).requires_grad


def test_teacher_starts_as_the_student(tiny_model_cfg, distillation_cfg):
    model = MODELS.build(tiny_model_cfg(dict(distillation=distillation_cfg('cvpr'))))
    model.init_weights()
    pairs = [pair for copy in model.momentum_copies for pair in copy.averaged_pairs]
    assert len(model.momentum_copies) == 2
    assert all(torch.equal(copy, source) for copy, source in pairs)


def test_checkpoint_without_teacher_starts_it_from_the_student(tiny_model_cfg, distillation_cfg):
    model = MODELS.build(tiny_model_cfg(dict(distillation=distillation_cfg('cvpr'))))
    model.init_weights()
    state = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    student = {name: value for name, value in state.items() if 'teacher' not in name and 'target_head' not in name}
    model.load_state_dict(student)
    assert all(torch.equal(*pair) for copy in model.momentum_copies for pair in copy.averaged_pairs)
    model.load_state_dict(state)
    assert not any(torch.equal(*pair) for copy in model.momentum_copies for pair in copy.averaged_pairs)


def test_a_copy_stays_bit_for_bit_after_a_step_that_only_the_device_knows_was_skipped():
    sources = [nn.Linear(3, 2), nn.Linear(2, 2)]
    copies = [MomentumCopy(source) for source in sources]
    plain = [MomentumCopy(source) for source in sources]
    start = [copy.module.weight.clone() for copy in copies]
    with torch.no_grad():
        for source in sources:
            source.weight.add_(1)
    for copy in copies:
        copy.applied = torch.tensor(0.0)
    follow(copies, 0.9)
    assert all(torch.equal(copy.module.weight, weight) for copy, weight in zip(copies, start, strict=True))
    for copy in copies:
        copy.applied = torch.tensor(1.0)
    follow(copies, 0.9)
    follow(plain, 0.9)
    assert all(torch.equal(copy.module.weight, other.module.weight) for copy, other in zip(copies, plain, strict=True))


class _Normed(nn.Module):
    """Has every kind of buffer: statistics, a counter, and a mask with an infinity."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer('mask', torch.tensor([0.0, float('-inf')]))


def test_buffers_follow_too_and_stay_when_the_step_was_skipped():
    source = _Normed()
    copy = MomentumCopy(source)
    source.norm(5 + torch.randn(8, 3))
    copy.applied = torch.tensor(0.0)
    follow([copy], 0.9)
    assert not copy.module.norm.running_mean.any()
    assert copy.module.norm.num_batches_tracked == 0
    for copy.applied in (None, torch.tensor(1.0)):
        copy.module.norm.reset_running_stats()
        follow([copy], 0.9)
        torch.testing.assert_close(copy.module.norm.running_mean, 0.1 * source.norm.running_mean)
        torch.testing.assert_close(copy.module.norm.running_var, 0.9 + 0.1 * source.norm.running_var)
        assert copy.module.norm.num_batches_tracked == 1
        assert torch.equal(copy.module.mask, source.mask)
