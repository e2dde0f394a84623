"""Zero-shot: SUN397, the first test partition."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('sun397', _base_.data_root)
