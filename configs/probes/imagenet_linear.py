"""Linear probe on ImageNet-1K on features of one pass, for a machine that cannot afford configs/linear_probe.

python tools/test.py configs/probes/imagenet_linear.py CHECKPOINT --model CONFIG

MaskCLIP's recipe (LARS, lr 6.4, batch 16384, 90 epochs) without its crops and flips; what that costs has not been
measured. Reads imagenet/train and imagenet/val, one folder per class, below MMMASKCLIP_EVAL; the features of the
1,281,167 training images are 3.9 GB of float32 at ViT-B's width. For another set name its row of
mmmaskclip/datasets/evaluation/zero_shot_sets.py. Not run.
"""

_base_ = '../zero_shot/_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import labelled_images, loader, probe_loader

test_dataloader = dict(imagenet=loader(labelled_images('imagenet', _base_.data_root)))
test_evaluator = dict(
    imagenet=dict(
        type='LinearClassificationProbe',
        train_dataloader=probe_loader('imagenet', _base_.data_root),
        metric='top1',
    )
)
