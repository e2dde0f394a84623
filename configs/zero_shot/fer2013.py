"""Zero-shot: FER2013, public and private test images."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('fer2013', _base_.data_root)
