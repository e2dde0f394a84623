"""Zero-shot: FER2013, private test images."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('fer2013_icinw', _base_.data_root)
