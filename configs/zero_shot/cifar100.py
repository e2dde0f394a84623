"""Zero-shot: CIFAR-100, test split."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('cifar100', _base_.data_root)
