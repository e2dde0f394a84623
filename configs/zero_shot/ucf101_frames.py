"""Zero-shot: UCF101, middle frames of the first test split."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('ucf101_frames', _base_.data_root)
