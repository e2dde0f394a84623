"""Zero-shot: Kinetics-700, frames of the val split."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('kinetics700_frames', _base_.data_root)
