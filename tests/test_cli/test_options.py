import pytest
from mmengine.config import Config

from mmmaskclip.cli.options import apply_options
from mmmaskclip.config_check import ConfigMistake


def test_a_variable_of_a_config_is_no_setting():
    cfg = Config(dict(model=dict(objectives=dict(pixels=dict(weight=1.0))), pixels=dict(weight=1.0)))
    with pytest.raises(ConfigMistake, match='pixels is a variable .* Did you mean model.objectives.pixels.weight'):
        apply_options(cfg, {'pixels.weight': 0.5})
    apply_options(cfg, {'model.objectives.pixels.weight': 0.5})
    assert cfg.model.objectives.pixels.weight == 0.5


def test_a_value_that_cannot_be_merged_is_named_in_one_sentence():
    cfg = Config(dict(model=dict(image_encoder=dict(arch='ViT-B/16'))))
    with pytest.raises(
        ConfigMistake, match=r"--cfg-options: arch=.* is of type <class 'str'> in base config.*_delete_"
    ):
        apply_options(cfg, {'model.image_encoder.arch': dict(num_layers=1)})
    apply_options(cfg, {'model.image_encoder.arch': dict(_delete_=True, num_layers=1)})
    assert cfg.model.image_encoder.arch == dict(num_layers=1)
