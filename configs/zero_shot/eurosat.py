"""Zero-shot: EuroSAT, images 1,000 to 1,499 of each class."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('eurosat', _base_.data_root)
