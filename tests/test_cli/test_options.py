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
