"""Sections of a config that contradict each other or lack one, named before anything is built."""

import pytest
from mmengine.config import Config
from paths import ROOT

from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.config_check.check import check_config

PRETRAINING = 'configs/maskclip/vitt16_flickr8k_v1.py'
SCENES = 'configs/clip/vitxs16_scenes.py'


@pytest.mark.parametrize(
    ('config', 'option', 'value', 'message'),
    [
        (PRETRAINING, 'optim_wrapper', None, 'it is missing, but there is train_dataloader and train_cfg'),
        (PRETRAINING, 'model', None, 'model: it is missing, but there is train_cfg'),
        (PRETRAINING, 'test_evaluator', [{}], 'one for each of the tasks retrieval, found a list'),
        (PRETRAINING, 'test_evaluator.type', 'RetrievalRecall', 'one for each of the tasks .*found a single evaluator'),
        (PRETRAINING, 'val_evaluator', {'retreival': {}}, "none for the task 'retreival'. Did you mean retrieval"),
        (PRETRAINING, 'model.image_encoder.img_size', 96, r'image\.0\.size=112: the image tower takes .*img_size=96'),
    ],
)
def test_contradictions_name_their_keys(config, option, value, message):
    cfg = Config.fromfile(ROOT / config)
    cfg.merge_from_dict({option: value})
    with pytest.raises(ConfigMistake, match=message) as error:
        check_config(cfg)
    assert option.rpartition('.')[0] in str(error.value)


def test_a_schedule_must_begin_before_its_end():
    cfg = Config.fromfile(ROOT / SCENES)
    cfg.merge_from_dict({'param_scheduler.0.begin': 1})
    with pytest.raises(ConfigMistake, match=r'0\.begin=1: it must be less than its end=1'):
        check_config(cfg)


def test_schedules_of_a_wrong_type_are_no_crash():
    cfg = Config.fromfile(ROOT / SCENES)
    cfg.param_scheduler = ['LinearLR', dict(type='LinearLR', begin='1', end=2)]
    with pytest.raises(
        ConfigMistake, match=r"(?s)param_scheduler\.0: expected a dict.*1\.begin: .* takes int, found str '1'"
    ):
        check_config(cfg)


def test_a_list_of_hooks_that_leaves_out_the_models_is_refused():
    cfg = Config.fromfile(ROOT / PRETRAINING)
    cfg.custom_hooks = [dict(type='mmengine.EMAHook')]
    with pytest.raises(ConfigMistake, match='custom_hooks: without ModelStepHook the teacher'):
        check_config(cfg)
    cfg.custom_hooks = [dict(type='mmmaskclip.ModelStepHook')]
    check_config(cfg)
