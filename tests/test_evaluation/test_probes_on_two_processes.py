"""Both probes in the evaluation loop: two processes give the metrics of one, with uneven tails in train and test."""

import json
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from ranks import run_ranks
from torch.utils.data import Dataset

from mmmaskclip.datasets.training.collate import collate_image_text
from mmmaskclip.engine.loops.evaluation_loop import EvaluationLoop
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.startup.processes import setup_processes


class Samples(Dataset):
    """Random images of few grey levels; label and mask follow from the grey."""

    def __init__(self, num_samples, seed, field):
        self.num_samples, self.seed, self.field = num_samples, seed, field

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        grey = torch.randint(6, (4, 4), generator=generator)
        image = (grey * 40).repeat_interleave(8, 0).repeat_interleave(8, 1).expand(3, 32, 32)
        value = int(grey.sum()) // 4 % 6 if self.field == 'label' else grey.to(torch.uint8)
        return {'image': image.to(torch.uint8), self.field: value, 'key': f'{index}'}


def make_runner(model_cfg, work_dir, launcher='none'):
    def test(field):
        return dict(
            dataset=Samples(7, 1, field),
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=collate_image_text,
        )

    def train(field):
        return dict(dataset=Samples(15, 0, field), batch_size=4)

    cfg = Config(dict(launcher=launcher))
    setup_processes(cfg)
    return Runner(
        model=model_cfg,
        work_dir=str(work_dir),
        default_scope='mmmaskclip',
        launcher=launcher,
        randomness=dict(seed=0),
        val_dataloader=dict(knn=test('label'), linear=test('mask')),
        val_evaluator=dict(
            knn=dict(type='KNNClassification', train_dataloader=train('label'), k=4),
            linear=dict(
                type='LinearSegmentationProbe', train_dataloader=train('mask'), num_classes=6, steps=4, batch_size=64
            ),
        ),
        val_cfg=dict(type=EvaluationLoop),
        cfg=cfg,
    )


def test_two_processes_give_the_metrics_of_one(tmp_path, tiny_model_cfg):
    run_ranks(evaluate_as_one_of_two, tiny_model_cfg(), tmp_path)
    register_all_modules()
    expected = make_runner(tiny_model_cfg(), tmp_path / 'one').val()
    assert set(expected) == {'knn/top1', 'knn/top5', 'linear/mIoU', 'linear/mAcc', 'linear/aAcc'}
    assert all(0 < value < 100 for value in expected.values())
    for rank in range(2):
        assert json.loads((tmp_path / f'{rank}.json').read_text()) == pytest.approx(expected)


def evaluate_as_one_of_two(model_cfg: dict, folder: Path) -> None:
    metrics = make_runner(model_cfg, folder / 'two', 'pytorch').val()
    (folder / f'{os.environ["RANK"]}.json').write_text(json.dumps(metrics))
