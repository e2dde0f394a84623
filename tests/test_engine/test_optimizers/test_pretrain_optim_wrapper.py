import pytest
import torch
from torch import nn

from mmmaskclip.engine import PretrainOptimWrapper


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
