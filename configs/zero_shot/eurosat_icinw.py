"""Zero-shot: EuroSAT, the 5,000 test images of CLIP."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('eurosat_icinw', _base_.data_root)
