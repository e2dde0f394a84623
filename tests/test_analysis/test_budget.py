import pytest
from mmengine.config import Config
from paths import CONFIGS

from mmmaskclip.analysis.budget import decisive_settings, differences, fingerprint, set_epochs
from mmmaskclip.config_check.check import check_config
from mmmaskclip.engine.registration import register_all_modules


def test_schedules_keep_their_shares_of_the_run():
    cfg = Config.fromfile(CONFIGS / 'clip/vitxs16_scenes.py')
    assert cfg.train_cfg.max_epochs == 12
    set_epochs(cfg, 30)
    warm_up, cosine = cfg.param_scheduler
    # Without an end of its own the cosine ends with the training.
    assert (warm_up.begin, warm_up.end, cosine.begin, cosine.get('end')) == (0, 2.5, 2.5, None)
    assert cfg.train_cfg.max_epochs == 30


def _of_epochs():
    for path in sorted(CONFIGS.rglob('*.py')):
        if '_base_' not in path.parts:
            cfg = Config.fromfile(path)
            if (cfg.get('train_cfg') or {}).get('max_epochs'):
                yield path, cfg


def test_every_shipped_config_can_be_given_another_length():
    register_all_modules()
    found = 0
    for path, cfg in _of_epochs():
        for epochs in (1, 7, 2 * cfg.train_cfg.max_epochs):
            shorter = cfg.copy()
            set_epochs(shorter, epochs)
            for schedule in shorter.param_scheduler:
                by_epoch = schedule.get('by_epoch', True)
                assert not by_epoch or schedule.get('end', epochs) <= epochs, path
                assert not by_epoch or max(schedule.get('milestones', [1])) <= epochs, path
        check_config(shorter)
        found += 1
    assert found > 50


def test_schedules_by_iteration_and_by_whole_epochs_stay_whole():
    by_iteration = dict(type='CosineAnnealingLR', by_epoch=False, begin=4, end=16, T_max=12)
    by_epoch = dict(type='LinearLR', by_epoch=True, begin=0, end=1)
    cfg = Config(dict(train_cfg=dict(max_epochs=4), param_scheduler=[by_epoch, by_iteration]))
    set_epochs(cfg, 1)
    assert [scheduler.to_dict() for scheduler in cfg.param_scheduler] == [
        {**by_epoch, 'end': 1},  # not 0.25, and not empty
        {**by_iteration, 'begin': 1, 'end': 4, 'T_max': 3},
    ]


def test_what_cannot_be_given_another_length_is_named():
    with pytest.raises(ValueError, match='no max_epochs'):
        set_epochs(Config(dict(train_cfg=dict(max_iters=7))), 2)
    with pytest.raises(ValueError, match='epochs=0'):
        set_epochs(Config(dict(train_cfg=dict(max_epochs=7))), 0)


def test_fingerprint_is_of_what_decides_a_result():
    def build(**options):
        cfg = Config.fromfile(CONFIGS / 'clip/vitxs16_scenes.py')
        cfg.merge_from_dict(options)
        return fingerprint(decisive_settings(cfg))

    base = build()
    assert build() == base
    # Where the data are and how a run is logged decide nothing.
    urls = {'train_dataloader.dataset.urls': '/elsewhere/shards/train-*.tar'}
    assert build(**urls, **{'default_hooks.logger.interval': 3, 'data_root': '/elsewhere', 'work_dir': 'x'}) == base
    for option in (
        {'optim_wrapper.optimizer.lr': 2e-3},
        {'train_dataloader.dataset.urls': '/elsewhere/shards/other-*.tar'},
        {'model.objectives.contrast.weight': 0.5},
        {'test_evaluator.single.prefix': 'other'},
    ):
        assert build(**option) != base


def test_differences_name_the_setting():
    first = {'a': {'b': [1, {'c': 2}]}, 'd': 3}
    assert differences(first, {'a': {'b': [1, {'c': 5}]}}) == ['a.b.1.c: 2 != 5', 'd: 3 != None']
    assert differences(first, first) == []
