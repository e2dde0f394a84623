"""Zero-shot: 5,000 of CIFAR-10's test images as JPEG files.

Measured on 2026-11-22 with the ViT-Ti/16 of Flickr8k: CLIP 16.5 %, MaskCLIP v1 18.9 %; more in docs/results.md.
"""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('cifar10_folder', _base_.data_root)
