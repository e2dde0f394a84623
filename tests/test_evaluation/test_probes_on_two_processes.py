"""All probes in the evaluation loop: two processes give the metrics of one, with uneven tails in train and test."""

import json
import os
from pathlib import Path

import pytest
import torch
from datasets_of_images import ORDERED, Greys
from mmengine.config import Config
from mmengine.runner import Runner
from ranks import run_ranks

from mmmaskclip.engine.loops.evaluation_loop import EvaluationLoop
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.evaluation.linear_probe import fit_linear_classifier
from mmmaskclip.evaluation.logistic_regression import LogisticRegression
from mmmaskclip.evaluation.logistic_regression_probe import fit_logistic
from mmmaskclip.startup.processes import setup_processes


def make_runner(model_cfg, work_dir, launcher='none'):
    def test(field):
        return dict(dataset=Greys(17, field, seed=1), batch_size=2, **ORDERED)

    def train(field):
        return dict(dataset=Greys(35, field), batch_size=4)

    cfg = Config(dict(launcher=launcher))
    setup_processes(cfg)
    logistic = dict(type='LogisticRegressionProbe', max_iter=50)
    segmentation = dict(type='LinearSegmentationProbe', num_classes=6, steps=4, batch_size=64)
    return Runner(
        model=model_cfg,
        work_dir=str(work_dir),
        default_scope='mmmaskclip',
        launcher=launcher,
        randomness=dict(seed=0),
        val_dataloader=dict(
            knn=test('label'),
            segmentation=test('small mask'),
            linear=test('label'),
            few_shot=test('label'),
            several=test('labels'),
        ),
        val_evaluator=dict(
            knn=dict(type='KNNClassification', train_dataloader=train('label'), k=4),
            segmentation=dict(**segmentation, train_dataloader=train('small mask')),
            linear=dict(type='LinearClassificationProbe', train_dataloader=train('label'), batch_size=16),
            few_shot=dict(**logistic, train_dataloader=train('label'), shots=[1, 3], seeds=[0, 1]),
            several=dict(**logistic, train_dataloader=train('labels'), metric='map11'),
        ),
        val_cfg=dict(type=EvaluationLoop),
        cfg=cfg,
    )


def test_two_processes_give_the_metrics_of_one(tmp_path, tiny_model_cfg):
    run_ranks(evaluate_as_one_of_two, tiny_model_cfg(), tmp_path)
    register_all_modules()
    expected = make_runner(tiny_model_cfg(), tmp_path / 'one').val()
    some = {'knn/top1', 'knn/top5', 'segmentation/mIoU', 'segmentation/mAcc', 'segmentation/aAcc', 'linear/top1'}
    assert some | {'few_shot/1_shot/top1_std', 'few_shot/3_shot/top1', 'several/map11'} < set(expected)
    assert all(0 < expected[name] < 100 for name in some - {'knn/top5'})
    for rank in range(2):
        assert json.loads((tmp_path / f'{rank}.json').read_text()) == pytest.approx(expected)


def test_each_of_two_processes_fits_its_share(tmp_path):
    run_ranks(fit_as_one_of_two, tmp_path)
    alone = fits()
    for rank in range(2):
        together = torch.load(tmp_path / f'{rank}.pth')
        assert together.pop('rows') == [15]
        for name, head in together.items():
            torch.testing.assert_close(head, alone[name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)


def fits():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(30) % 3
    features = torch.randn(30, 5, generator=generator) + torch.randn(3, 5, generator=generator)[labels]
    several = torch.stack((labels == 0, labels < 2, labels < 3), dim=1).long()
    recipe = dict(epochs=4, warmup_epochs=1, batch_size=15, lr=6.4, momentum=0.9)
    return {
        'linear': fit_linear_classifier(features, labels, 3, **recipe),
        'logistic': fit_logistic(features, labels, 3, 0.2, 1000)[1],
        'several': fit_logistic(features, several, 3, 0.2, 1000)[1],
    }


def fit_as_one_of_two(folder: Path) -> None:
    setup_processes(Config(dict(launcher='pytorch')))
    rows = set()
    count = LogisticRegression._loss_and_gradient

    def counted(self, *arguments):
        rows.add(len(self.features))
        return count(self, *arguments)

    LogisticRegression._loss_and_gradient = counted
    heads = fits()
    LogisticRegression(torch.zeros(30, 5), torch.arange(30) % 3, 3).fit(1.0, 1)
    torch.save({**heads, 'rows': [max(rows)]}, folder / f'{os.environ["RANK"]}.pth')


def evaluate_as_one_of_two(model_cfg: dict, folder: Path) -> None:
    metrics = make_runner(model_cfg, folder / 'two', 'pytorch').val()
    (folder / f'{os.environ["RANK"]}.json').write_text(json.dumps(metrics))
