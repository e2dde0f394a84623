"""Zero-shot: ImageNet-1K, val split, 7 templates."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('imagenet', _base_.data_root)
