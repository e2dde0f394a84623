"""Zero-shot: Caltech-101 with its background class, without the first 30 images of each class."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('caltech101', _base_.data_root)
