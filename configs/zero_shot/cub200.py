"""Zero-shot: CUB-200-2011, test split."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('cub200', _base_.data_root)
