"""Zero-shot: Describable Textures, test split of the first partition."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('dtd', _base_.data_root)
