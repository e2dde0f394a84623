"""Zero-shot: GTSRB, test split."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('gtsrb', _base_.data_root)
