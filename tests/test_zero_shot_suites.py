"""The suites of the papers: their sets, splits, resizes and tables, as the configs have them."""

import ast
import re

import paths
import pytest
from mmengine.config import Config

from mmmaskclip.cli.other_model import use_model
from mmmaskclip.engine.loops.suite_table import Published, format_suite

CONFIGS = paths.CONFIGS / 'zero_shot'


def test_table():
    published = [Published.of(dict(name='A', average=40.0, source='paper', without=['b']), 'abc')]
    table = format_suite('s', list('abc'), {'a': 10.0, 'c': 20.0}, {'b': 'no folder'}, published)
    assert table.splitlines() == [
        's:',
        '  a                   10.00',
        '  c                   20.00',
        '  average of 2 of 3   15.00',
        '  not present: b',
        '  averages of papers  published   ours  over sets',
        '  A (paper)               40.00  15.00     2 of 2',
    ]
    with pytest.raises(ValueError, match=r"published 'A' leaves out \['z'\]"):
        Published.of(dict(name='A', average=40.0, source='paper', without=['z']), 'abc')


# SLIP's eval_zeroshot.py, in its order.
SLIP26 = (
    'food101 cifar10 cifar100 cub200 sun397 cars aircraft dtd pets caltech101 flowers mnist fer2013 stl10 eurosat '
    'resisc45 gtsrb kitti_distance country211 patch_camelyon ucf101_frames kinetics700_frames clevr_counts '
    'hateful_memes rendered_sst2 imagenet'
)
# ELEVATER's resources/datasets, by name.
ICINW20 = (
    'caltech101 cifar10 cifar100 country211 dtd eurosat fer2013 aircraft flowers food101 gtsrb hateful_memes '
    'kitti_distance mnist pets patch_camelyon rendered_sst2 resisc45 cars voc2007'
)


@pytest.mark.parametrize(('name', 'sets'), [('suite_slip26', SLIP26), ('suite_icinw20', ICINW20)])
def test_suites_of_the_papers(name, sets):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    assert list(cfg.test_dataloader) == list(cfg.test_evaluator) == sets.split()
    published = [Published.of(row, cfg.test_dataloader) for row in cfg.test_cfg.published]
    if name == 'suite_slip26':
        assert {len(row.sets) for row in published} == {25, 26}
    else:
        assert [(row.average, len(row.sets)) for row in published] == [(43.2, 20), (44.0, 20)]
    assert not {'Config', 'tasks'} & set(cfg)
    # Only what a Runner reads and what the sets share.
    scores = [metric.metric for metric in cfg.test_evaluator.values()]
    per_class = {key for key, metric in cfg.test_evaluator.items() if metric.metric == 'mean_per_class'}
    assert per_class == {'aircraft', 'pets', 'caltech101', 'flowers'}
    assert cfg.test_evaluator.hateful_memes.metric == 'roc_auc'
    assert scores.count('top1') == len(scores) - 6


def test_splits_and_names_of_icinw():
    cfg = Config.fromfile(CONFIGS / 'suite_icinw20.py')
    datasets = {name: loader.dataset for name, loader in cfg.test_dataloader.items()}
    samples = {name: datasets[name].num_samples for name in ('fer2013', 'kitti_distance', 'resisc45', 'eurosat')}
    assert samples == {'fer2013': 3589, 'kitti_distance': 711, 'resisc45': 25200, 'eurosat': 5000}
    assert 'eurosat_icinw' in datasets['eurosat'].folder
    assert datasets['patch_camelyon'].source.split == 'test'
    assert {name for name, dataset in datasets.items() if dataset.classes != name} == {'aircraft', 'cars', 'fer2013'}


def resizing(cfg):
    (found,) = {str(loader.dataset.transforms) for loader in cfg.test_dataloader.values()}
    return ast.literal_eval(found)


def test_each_suite_resizes_as_its_toolkit():
    crop = dict(type='torchvision/CenterCrop', size=224)
    slip, icinw = (Config.fromfile(CONFIGS / f'suite_{name}.py') for name in ('slip26', 'icinw20'))
    assert resizing(slip) == [dict(type='torchvision/Resize', size=224), crop]
    bicubic = [dict(type='torchvision/Resize', size=224, interpolation='bicubic'), crop]
    assert resizing(icinw) == bicubic
    for path in [*CONFIGS.glob('*_icinw.py'), CONFIGS / 'voc2007.py']:
        assert resizing(Config.fromfile(path)) == bicubic
    use_model(icinw, str(CONFIGS.parent / 'pretrained/openai_vitl14_336.py'))
    assert [step['size'] for step in resizing(icinw)] == [336, 336]


def test_documented_lines_put_a_suite_into_a_training_config(tmp_path, monkeypatch):
    root = paths.ROOT
    monkeypatch.chdir(root)
    blocks = re.findall(r'```python\n(.*?)```', (root / 'docs/evaluation.md').read_text(encoding='utf-8'), re.DOTALL)
    (lines,) = [block for block in blocks if 'suite_icinw20.py' in block]
    config = tmp_path / 'config.py'
    config.write_text(f'_base_ = {str(root / "configs/maskclip/vitt16_flickr8k_v1.py")!r}\n{lines}')
    cfg = Config.fromfile(config)
    suite = Config.fromfile('configs/zero_shot/suite_icinw20.py')
    assert (cfg.val_dataloader, cfg.val_evaluator) == (suite.test_dataloader, suite.test_evaluator)
    assert (cfg.val_cfg.type, cfg.val_cfg.suite) == ('SuiteLoop', 'suite_icinw20')
