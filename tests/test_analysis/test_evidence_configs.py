"""Six methods that differ in the method alone."""

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from mmmaskclip.analysis.budget import differences, evaluation_settings
from mmmaskclip.analysis.evidence_configs import IMAGE_SIZE, METHODS, write_configs
from mmmaskclip.config_check.check import check_config
from mmmaskclip.datasets.scenes.writer import SceneSplit, write_shards
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.registry import DATASETS, FUNCTIONS, MODELS


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scenes')
    splits = {name: SceneSplit(4, (1, 1), harder=True) for name in ('val', 'single', 'known')}
    write_shards(folder, {'train': SceneSplit(4, (3, 8), False, True), **splits}, image_size=IMAGE_SIZE, shard_size=4)
    return folder


@pytest.fixture(scope='module')
def configs(scenes, tmp_path_factory):
    register_all_modules()
    data = {'scenes': str(scenes), 'flickr8k': str(scenes), 'cifar10': str(scenes)}
    paths = write_configs(tmp_path_factory.mktemp('configs'), data, 'tiny', 4, 'fp32', 0)
    return {name: {path.stem: Config.fromfile(path) for path in files} for name, files in paths.items()}


def test_all_methods_are_there_and_evaluated_alike(configs):
    assert list(configs) == ['scenes', 'flickr8k']
    for methods in configs.values():
        assert list(methods) == list(METHODS)
        first = evaluation_settings(methods['clip'])
        assert not any(differences(first, evaluation_settings(cfg)) for cfg in methods.values())
        for cfg in methods.values():
            check_config(cfg)


def test_methods_differ_in_objectives_views_and_momentum_alone(configs):
    allowed = ('model.objectives', 'model.teacher_momentum', 'train_dataloader.dataset.views')
    for methods in configs.values():
        plain = methods['clip'].to_dict()
        for name, cfg in methods.items():
            found = differences(plain, cfg.to_dict())
            assert all(line.startswith(allowed) for line in found), (name, found)
            assert name == 'clip' or found


def test_images_of_all_tasks_have_the_size_of_the_model(configs):
    def sizes(node):
        if isinstance(node, dict):
            if str(node.get('type')).endswith(('Resize', 'CenterCrop')):
                yield node['size']
            node = list(node.values())
        if isinstance(node, (list, tuple)):
            for part in node:
                yield from sizes(part)

    for name, methods in configs.items():
        cfg = methods['clip']
        found = [*sizes(cfg.test_dataloader.to_dict()), *sizes(cfg.test_evaluator.to_dict())]
        assert len(found) >= 3, name
        assert set(found) == {IMAGE_SIZE}


@pytest.mark.parametrize('method', METHODS)
def test_a_method_takes_a_step(configs, method):
    cfg = configs['scenes'][method]
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    dataset.begin_epoch(epoch=0, seed=0, batch_size=4, start_batch=0)
    samples = [sample for sample, _ in zip(dataset, range(4), strict=False)]
    collate = FUNCTIONS.get('mmmaskclip.collate_image_text') or pseudo_collate
    model = MODELS.build(cfg.model).train()
    losses = model.forward(**model.data_preprocessor(collate(samples), True), mode='loss')
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    assert torch.isfinite(total)
