"""Zero-shot: Rendered SST2, test split."""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('rendered_sst2', _base_.data_root)
