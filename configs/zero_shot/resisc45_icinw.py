"""Zero-shot: RESISC45, the 25,200 test images of CLIP and ICinW."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('resisc45_icinw', _base_.data_root)
