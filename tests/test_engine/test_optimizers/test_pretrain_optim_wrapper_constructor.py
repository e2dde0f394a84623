import pytest
import torch
from torch import nn

from mmmaskclip.engine import PretrainOptimWrapper, PretrainOptimWrapperConstructor


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.image = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))
        self.text = nn.Linear(4, 4)
        self.teacher = nn.Linear(4, 4).requires_grad_(False)


def build(model, **paramwise_cfg):
    optimizer = {'type': 'AdamW', 'lr': 0.1, 'weight_decay': 0.5, 'fused': True}
    constructor = PretrainOptimWrapperConstructor(
        {'type': 'PretrainOptimWrapper', 'optimizer': optimizer}, paramwise_cfg
    )
    return constructor(model)


def names_by_setting(model, wrapper):
    names = {param: name for name, param in model.named_parameters()}
    return {
        (round(group['lr'], 6), round(group['weight_decay'], 6)): {names[param] for param in group['params']}
        for group in wrapper.optimizer.param_groups
    }


def test_two_groups_vectors_undecayed_and_frozen_parameters_left_out(caplog):
    model = Model()
    wrapper = build(model)
    assert isinstance(wrapper, PretrainOptimWrapper)
    assert names_by_setting(model, wrapper) == {
        (0.1, 0.5): {'pos_embed', 'image.0.weight', 'image.2.weight', 'text.weight'},
        (0.1, 0.0): {
            'cls_token', 'logit_scale', 'image.0.bias', 'image.1.weight', 'image.1.bias', 'image.2.bias', 'text.bias',
        },
    }  # fmt: skip
    assert wrapper.optimizer.param_groups[0]['weight_decay'] == 0.5  # the group whose rate the log shows
    assert 'teacher' not in caplog.text


def test_custom_keys_make_their_own_groups_and_the_longest_wins():
    model = Model()
    wrapper = build(
        model, custom_keys={'image': {'lr_mult': 0.5}, 'image.2': {'lr_mult': 0.1}, 'cls_token': {'decay_mult': 1.0}}
    )
    assert names_by_setting(model, wrapper) == {
        (0.1, 0.5): {'cls_token', 'pos_embed', 'text.weight'},
        (0.1, 0.0): {'logit_scale', 'text.bias'},
        (0.05, 0.5): {'image.0.weight'},
        (0.05, 0.0): {'image.0.bias', 'image.1.weight', 'image.1.bias'},
        (0.01, 0.5): {'image.2.weight'},
        (0.01, 0.0): {'image.2.bias'},
    }


def test_fused_adamw_steps_on_the_cpu():
    model = Model()
    wrapper = build(model)
    before = model.text.weight.clone()
    wrapper.update_params(model.text(torch.ones(2, 4)).square().mean())
    assert not torch.equal(model.text.weight, before)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"\['norm_decay_mult'\]"):
        build(Model(), norm_decay_mult=0.0)
    with pytest.raises(ValueError, match=r"\['imgae'\] match no parameter"):
        build(Model(), custom_keys={'imgae': {'lr_mult': 0.1}})
    with pytest.raises(ValueError, match='nothing to train'):
        build(nn.Linear(2, 2).requires_grad_(False))
