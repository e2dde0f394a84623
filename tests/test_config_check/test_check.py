from typing import Any

import pytest
from mmengine.config import Config
from paths import ROOT

from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.config_check.arguments import arguments_of
from mmmaskclip.config_check.check import check_config
from mmmaskclip.registry import MODELS

CONFIGS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts)
PRETRAINING = 'configs/maskclip/vitt16_flickr8k_v1.py'
DETECTION = 'configs/mask_rcnn/vitt16_coco_tiny.py'
ZERO_SHOT = 'configs/zero_shot/cifar10.py'


@pytest.mark.parametrize('folder', sorted({name.split('/')[1] for name in CONFIGS}))
def test_accepts_every_config(folder):
    for name in CONFIGS:
        if name.split('/')[1] == folder:
            check_config(Config.fromfile(ROOT / name))


@pytest.mark.parametrize(
    ('config', 'option', 'value', 'message'),
    [
        (PRETRAINING, 'model.image_encodr', {}, 'model.image_encodr: ImageTextPretrainer has no .* mean image_encoder'),
        (PRETRAINING, 'model.image_encoder.drop_path', 0.1, 'CLIPVisionTransformer has .* mean .*drop_path_rate'),
        (PRETRAINING, 'model.objectives.distillation.type', 'MaskdSelfDistillation', 'mean MaskedSelfDistillation'),
        (PRETRAINING, 'model.objectives.distillation.weight', 'one', "takes float or dict, found str 'one'"),
        (PRETRAINING, 'train_dataloader.batchsize', 8, 'batchsize: nothing reads it. Did you mean batch_size'),
        (PRETRAINING, 'train_dataloader.dataset.viwes', {}, 'Did you mean views'),
        (PRETRAINING, 'default_hooks.logger.intervall', 5, 'LoggerHook has no such argument. Did you mean interval'),
        (
            PRETRAINING,
            'train_cfg.max_epochs',
            'ten',
            "max_epochs: expected a whole number of at least 1, found str 'ten'",
        ),
        (PRETRAINING, 'optim_wrapper.optimizer.type', 'AdmW', 'Did you mean AdamW'),
        (PRETRAINING, 'optim_wrapper.optimizer.lr', 'high', "found str 'high'"),
        (PRETRAINING, 'custom_hoks', [], 'custom_hoks: nothing reads it. Did you mean custom_hooks'),
        (PRETRAINING, 'model.objectives.mlm', {'weight': 1.0}, 'objectives.mlm: it has no type. Its keys: weight'),
        (PRETRAINING, 'model.objectives.contrast.loss', {'type': None}, 'expected the name of a part, found NoneType'),
        (
            PRETRAINING,
            'default_hooks.chekpoint',
            {'interval': 3},
            'chekpoint: nothing reads it. Did you mean checkpoint',
        ),
        (PRETRAINING, 'train_cfg', ({'type': 'PretrainLoop'},), 'takes dict or None, .*Remove the comma after it'),
        (PRETRAINING, 'train_cfg.max_epochs', None, 'takes int, found NoneType None'),
        (PRETRAINING, 'train_cfg.max_epochs', 0, 'expected a whole number of at least 1, found int 0'),
        (PRETRAINING, 'train_dataloader.batch_size', '32', "a whole number of at least 1, found str '32'"),
        (PRETRAINING, 'train_dataloader.batch_size', (32,), 'Remove the comma after it'),
        (PRETRAINING, 'train_dataloader.batch_size', 0, 'a whole number of at least 1, found int 0'),
        (PRETRAINING, 'train_dataloader.batch_size', True, 'a whole number of at least 1, found bool True'),
        (PRETRAINING, 'train_dataloader.num_workers', -1, 'a whole number of at least 0, found int -1'),
        (PRETRAINING, 'train_dataloader.num_workers', 0, 'persistent_workers=True needs num_workers above 0'),
        (PRETRAINING, 'train_dataloader.pin_memory', 'False', "takes bool, found str 'False'"),
        (PRETRAINING, 'train_dataloader.dataset', '/data', "expected a dict, found str '/data'"),
        (PRETRAINING, 'train_dataloader.dataset.views', [], 'takes dict, found list'),
        (PRETRAINING, 'param_scheduler', [{'by_epoch': True}], r'param_scheduler\.0: it has no type'),
        (PRETRAINING, 'optim_wrapper.constructor', 'PretrainWrapperConstructor', 'mean PretrainOptimWrapperConstr'),
        (PRETRAINING, 'optim_wrapper.clip_grad', {'maxnorm': 1.0}, 'maxnorm: nothing reads it. Did you mean max_norm'),
        (PRETRAINING, 'optim_wrapper.clip_grad', {'max_norm': '1'}, "max_norm: takes float, found str '1'"),
        (PRETRAINING, 'optim_wrapper.paramwise_cfg', {'custom_key': {}}, 'Did you mean custom_keys'),
        (PRETRAINING, 'custom_hooks.0.priority', 'HIGHER', "a name like HIGH, found str 'HIGHER'"),
        (PRETRAINING, 'randomness.sed', 1, 'randomness.sed: nothing reads it. Did you mean seed'),
        (PRETRAINING, 'randomness.seed', '1', "randomness.seed: expected a whole number, found str '1'"),
        (PRETRAINING, 'env_cfg.dist', {}, 'env_cfg.dist: nothing reads it. Did you mean dist_cfg'),
        (PRETRAINING, 'log_level', 'INFOO', "log_level: expected DEBUG.*, found str 'INFOO'"),
        (PRETRAINING, 'lr_config', {}, 'lr_config: .* Its settings are in param_scheduler'),
        (PRETRAINING, 'data', {'samples_per_gpu': 2}, 'data: .* Its settings are in train_dataloader'),
        (PRETRAINING, 'resume', 'auto', "resume: takes bool, found str 'auto'"),
        (PRETRAINING, 'optim_wrapper.paramwise_cfg', "{'x': 1}", 'paramwise_cfg: expected a dict, found str'),
        (
            PRETRAINING,
            'optim_wrapper.clip_grad',
            '1.0',
            "clip_grad: PretrainOptimWrapper takes dict or None, found str '1.0'",
        ),
        (PRETRAINING, 'auto_scale_lr.enabled', True, 'enabled: nothing reads it. Did you mean enable'),
        (PRETRAINING, 'val_dataloader.retrieval.batch_size', '8', "a whole number of at least 1, found str '8'"),
        (ZERO_SHOT, 'test_dataloader.dataset.source.type', 'torchvision/CIFAR01', 'mean torchvision/CIFAR10'),
        (DETECTION, 'model.roi_head.bbox_head.num_clases', 3, 'Did you mean num_classes'),
        (DETECTION, 'model.neck.1.type', 'mmdet.FNP', 'Did you mean .*mmdet.FPN'),
        (DETECTION, 'default_hooks.checkpoint.intervall', 2, 'Did you mean interval'),
    ],
)
def test_mistakes_are_named_with_the_nearest(config, option, value, message):
    cfg = Config.fromfile(ROOT / config)
    cfg.merge_from_dict({option: value})
    with pytest.raises(ConfigMistake, match=message) as error:
        check_config(cfg)
    assert option.rpartition('.')[0] in str(error.value)


def test_a_part_that_is_registered_after_the_mistake_is_found(monkeypatch):
    """As in a notebook, where the check runs again in the same process."""
    cfg = Config.fromfile(ROOT / PRETRAINING)
    cfg.model.objectives.mine = dict(type='RegisteredLater')
    with pytest.raises(ConfigMistake, match="'RegisteredLater': nothing of this name is registered"):
        check_config(cfg)
    monkeypatch.setitem(MODELS.module_dict, 'RegisteredLater', dict)
    check_config(cfg)


absent: Any = None  # as libraries bind an optional package that is not installed


class Wrapper:
    def __init__(self, engine: 'absent.Engine', steps: int = 1) -> None: ...


def test_a_type_hint_of_a_missing_package_is_no_crash():
    found = arguments_of(Wrapper)
    assert found is not None
    assert [*found.named] == ['engine', 'steps']


def test_arguments_that_are_missing_are_named():
    cfg = Config.fromfile(ROOT / PRETRAINING)
    del cfg.train_cfg['max_epochs']
    with pytest.raises(ConfigMistake, match='max_epochs: it is missing; PretrainLoop has no default for it'):
        check_config(cfg)


def test_names_below_custom_keys_are_the_users():
    cfg = Config.fromfile(ROOT / PRETRAINING)
    names = ('image_encoder', 'text_encoder', 'image_projection', 'backbone', 'dataset', 'loss', 'optimizer')
    cfg.optim_wrapper.paramwise_cfg = dict(custom_keys={name: dict(lr_mult=0.1) for name in names})
    check_config(cfg)


def test_schedules_in_epochs_may_begin_and_end_within_one():
    cfg = Config.fromfile(ROOT / PRETRAINING)
    cfg.param_scheduler[0].update(convert_to_iter_based=True, by_epoch=True, begin=0, end=0.5)
    check_config(cfg)
    del cfg.param_scheduler[0]['convert_to_iter_based']
    with pytest.raises(ConfigMistake, match=r'param_scheduler\.0\.end: .* takes int, found float 0\.5'):
        check_config(cfg)


def test_clipping_by_value_is_no_part():
    cfg = Config.fromfile(ROOT / PRETRAINING)
    cfg.optim_wrapper.clip_grad = dict(type='value', clip_value=1.0)
    check_config(cfg)


def test_a_schedule_alone_needs_a_type():
    cfg = Config.fromfile(ROOT / PRETRAINING)
    cfg.param_scheduler = dict(by_epoch=True)
    with pytest.raises(ConfigMistake, match='param_scheduler: it has no type'):
        check_config(cfg)


def test_another_loop_keeps_no_key_of_the_old_one_and_counts_iterations():
    cfg = Config.fromfile(ROOT / PRETRAINING)
    cfg.merge_from_dict({'train_cfg': dict(type='IterBasedTrainLoop', max_iters=9)})
    del cfg.param_scheduler[0]['by_epoch']  # True is its default
    message = r'(?s)mean max_iters\? .*_delete_=True.*param_scheduler\.0\.by_epoch: it must be False'
    with pytest.raises(ConfigMistake, match=message):
        check_config(cfg)


def test_all_mistakes_are_told_at_once():
    cfg = Config.fromfile(ROOT / PRETRAINING)
    cfg.merge_from_dict({'model.tex_encoder': {}, 'train_cfg.max_epoch': 3})
    with pytest.raises(ConfigMistake, match=r'(?s)text_encoder.*max_epochs'):
        check_config(cfg)


@pytest.mark.parametrize(('package', 'config'), [('mmdet', DETECTION), ('mmseg', 'configs/upernet/vitt16_camvid.py')])
def test_a_missing_toolbox_is_one_line_with_the_command(monkeypatch, package, config):
    monkeypatch.setattr('mmmaskclip.startup.dependencies.find_spec', lambda name: None if name == package else name)
    with pytest.raises(ConfigMistake) as error:
        check_config(Config.fromfile(ROOT / config))
    distribution = {'mmdet': 'onedl-mmdetection', 'mmseg': 'onedl-mmsegmentation'}[package]
    command = f"python -m pip install -c {ROOT}/requirements/constraints.txt '{distribution}>="
    assert str(error.value).startswith(f'{distribution} is not installed, and this needs it: {command}')
    assert '\n' not in str(error.value)
