from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmmaskclip.engine import PretrainOptimWrapper
from mmmaskclip.engine.step import optim_wrapper as pretrain_optim_wrapper


def build(precision='fp32', lr=0.1, **kwargs):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    return model, PretrainOptimWrapper(optimizer, precision=precision, **kwargs)


def train_step(model, wrapper, scale=1.0):
    with wrapper.optim_context(model):
        output = model(torch.ones(4, 3))
    wrapper.update_params(output.float().square().mean() * scale)
    return output


@pytest.mark.parametrize(
    ('precision', 'dtype'), [('fp32', torch.float32), ('bf16', torch.bfloat16), ('fp16', torch.float16)]
)
def test_forward_runs_in_the_precision_and_parameters_stay_float32(precision, dtype):
    model, wrapper = build(precision)
    before = model.weight.clone()
    assert train_step(model, wrapper).dtype == dtype
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)
    assert wrapper.steps_taken == 1


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
@pytest.mark.parametrize('clip_grad', [None, {'max_norm': 0.01}])
def test_grad_norm_is_the_unscaled_norm_before_clipping_and_stays_a_tensor(precision, clip_grad):
    model, wrapper = build(precision, clip_grad=clip_grad)
    assert wrapper.grad_norm is None
    train_step(model, wrapper)
    reference, _ = build(precision)
    with torch.autocast('cpu', torch.float16, enabled=precision == 'fp16'):
        output = reference(torch.ones(4, 3))
    output.float().square().mean().backward()
    expected = torch.cat([p.grad.flatten() for p in reference.parameters()]).norm()
    assert isinstance(wrapper.grad_norm, torch.Tensor)
    torch.testing.assert_close(wrapper.grad_norm, expected, rtol=2e-3 if precision == 'fp16' else 1e-6, atol=0)


def test_clipping_bounds_the_gradient_of_the_step():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    wrapper = PretrainOptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0), clip_grad={'max_norm': 0.01})
    before = [p.clone() for p in model.parameters()]
    train_step(model, wrapper)
    moved = torch.cat([(p - q).flatten() for p, q in zip(model.parameters(), before, strict=True)]).norm()
    assert moved.item() == pytest.approx(0.01, rel=1e-3)


def test_fp16_overflow_skips_the_step_and_lowers_the_scale():
    model, wrapper = build('fp16')
    before, scale = model.weight.clone(), wrapper.scaler.get_scale()
    train_step(model, wrapper, scale=float('inf'))
    assert torch.equal(model.weight, before)
    assert wrapper.steps_taken == 0
    assert wrapper.scaler.get_scale() < scale
    train_step(model, wrapper)
    assert not torch.equal(model.weight, before)
    assert wrapper.steps_taken == 1


def test_accumulation_steps_once_per_group_and_at_the_end_of_the_run():
    model, wrapper = build(accumulative_counts=3)
    wrapper.initialize_count_status(model, 0, 5)
    taken = []
    for _ in range(5):
        train_step(model, wrapper)
        taken.append(wrapper.steps_taken)
    assert taken == [0, 0, 1, 1, 2]


def test_state_dict_carries_steps_and_scale_and_loads_across_precisions():
    model, wrapper = build('fp16')
    train_step(model, wrapper, scale=float('inf'))
    train_step(model, wrapper)
    state = wrapper.state_dict()
    assert state['steps_taken'] == 1

    _, resumed = build('fp16')
    resumed.load_state_dict(state)
    assert resumed.steps_taken == 1
    assert resumed.scaler.get_scale() == wrapper.scaler.get_scale()
    assert 'scaler' in state  # not emptied by loading

    _, other = build('bf16')
    other.load_state_dict(state)
    assert other.steps_taken == 1
    _, back = build('fp16')
    back.load_state_dict(other.state_dict())
    assert back.scaler.get_scale() == 2.0**16


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="precision='half' is unknown"):
        build('half')
    with pytest.raises(ValueError, match='clip_grad'):
        build(clip_grad={'type': 'value', 'clip_value': 1.0})


class _HostReads(TorchDispatchMode):
    """Counts how often a value is brought to the host, for which a GPU would have to be waited for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        return func(*args, **kwargs or {})


@pytest.fixture
def skip_on_device(monkeypatch):
    """As with a fused optimizer on a GPU."""
    monkeypatch.setattr(pretrain_optim_wrapper, '_can_skip_on_device', lambda optimizer: True)


def test_only_fused_optimizers_on_a_gpu_skip_on_the_device():
    model, wrapper = build()
    assert not wrapper.reads_late
    fake = SimpleNamespace(is_cuda=True)
    optimizer = SimpleNamespace(param_groups=[{'params': [fake]}], _step_supports_amp_scaling=True)
    assert pretrain_optim_wrapper._can_skip_on_device(optimizer)
    assert not pretrain_optim_wrapper._can_skip_on_device(torch.optim.SGD(model.parameters()))
    optimizer.param_groups[0]['params'] = [Mock(spec=DTensor, is_cuda=True)]
    assert not pretrain_optim_wrapper._can_skip_on_device(optimizer)


@pytest.mark.parametrize('clip_grad', [None, {'max_norm': 0.01}])
def test_a_step_that_is_skipped_on_the_device_reads_nothing(skip_on_device, clip_grad):
    model, wrapper = build(clip_grad=clip_grad)
    before = model.weight.clone()
    with _HostReads() as reads:
        train_step(model, wrapper, scale=float('nan'))
    assert reads.count == 0
    assert torch.equal(model.weight, before)
    first = wrapper.outcome
    assert first.applied.item() == 0
    assert first.skipped is None
    assert wrapper.steps_taken == 1
    undone = []
    first.if_skipped(lambda: undone.append('first'))
    train_step(model, wrapper)
    assert undone == ['first']
    assert (first.skipped, first.loss_fault) == (True, True)
    assert wrapper.steps_taken == wrapper.steps_skipped == 1
    assert wrapper.outcome.applied.item() == 1
    assert wrapper.outcome.skipped is None
    wrapper.outcome.if_skipped(lambda: undone.append('second'))
    wrapper.outcome.read()
    assert wrapper.outcome.skipped is False
    assert undone == ['first']
    assert not torch.equal(model.weight, before)


def test_a_saved_state_knows_of_the_skipped_step(skip_on_device):
    model, wrapper = build()
    train_step(model, wrapper, scale=float('nan'))
    state = wrapper.state_dict()
    assert (state['steps_taken'], state['steps_skipped']) == (0, 1)
    _, resumed = build()
    resumed.load_state_dict(state)
    assert (resumed.steps_taken, resumed.steps_skipped) == (0, 1)
    del state['steps_skipped']  # of an older checkpoint
    resumed.load_state_dict(state)
    assert resumed.steps_skipped == 0


def test_an_optimizer_without_a_flag_is_not_called_for_a_skipped_step():
    model = nn.Linear(3, 2)
    wrapper = PretrainOptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9))
    before = model.weight.clone()
    train_step(model, wrapper, scale=float('inf'))
    assert torch.equal(model.weight, before)
    assert wrapper.outcome.skipped is True
    undone = []
    wrapper.outcome.if_skipped(lambda: undone.append('at once'))
    assert undone == ['at once']
    assert not wrapper.optimizer.state
    train_step(model, wrapper)
    assert wrapper.outcome.skipped is False


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_a_loss_that_is_not_finite_skips_although_its_gradient_is(precision):
    model, wrapper = build(precision, accumulative_counts=2)
    before = model.weight.clone()
    for extra in (float('nan'), 0.0, 0.0, 0.0):
        wrapper.update_params(model(torch.ones(4, 3)).square().mean() + extra)
        if wrapper.outcome is not None and wrapper.steps_skipped and not wrapper.steps_taken:
            assert torch.equal(model.weight, before)
    assert (wrapper.steps_taken, wrapper.steps_skipped) == (1, 1)
    assert not torch.equal(model.weight, before)
