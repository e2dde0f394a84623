"""``activation_checkpointing`` as a key of a config; what the function does is tested with the models."""

import pytest
import torch
from mmengine.config import Config

from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.config_check.check import check_config
from mmmaskclip.engine.distributed import activation_checkpointing
from mmmaskclip.engine.distributed.activation_checkpointing import turn_on_activation_checkpointing


def test_the_key_of_a_config_is_used_and_changes_no_bit(tiny_runner, monkeypatch):
    calls = []
    checkpoint = activation_checkpointing.checkpoint
    monkeypatch.setattr(
        activation_checkpointing, 'checkpoint', lambda *args, **kwargs: calls.append(1) or checkpoint(*args, **kwargs)
    )
    ends = []
    for options in ({}, {'activation_checkpointing': 'layer'}):
        runner = tiny_runner(**options)
        runner.train()
        ends.append({name: value.clone() for name, value in runner.model.state_dict().items()})
        assert bool(calls) == bool(options)
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


def test_the_check_of_configs_knows_the_key():
    check_config(Config(dict(activation_checkpointing=['layer'])))
    with pytest.raises(ConfigMistake, match='Did you mean activation_checkpointing'):
        check_config(Config(dict(activation_checkpoint=['layer'])))


def test_a_module_that_is_not_there_ends_the_run_before_its_first_step(tiny_runner):
    runner = tiny_runner(activation_checkpointing=['nothing'])
    with pytest.raises(ValueError, match="TinyModel has no module 'nothing'"):
        runner.train()


@pytest.mark.parametrize('value', [True, [1], 3])
def test_what_is_no_name_is_refused(value):
    with pytest.raises(TypeError, match=r'activation_checkpointing=.*give names of modules'):
        turn_on_activation_checkpointing(torch.nn.Linear(2, 2), value)
