"""Logistic regression on CIFAR-10 as JPEG files (5,000 + 5,000 images), C searched as CLIP does.

tar xf train.tar --one-top-level=data/zero_shot/cifar10_folder
tar xf test.tar --one-top-level=data/zero_shot/cifar10_folder
python tools/test.py configs/probes/cifar10_logistic.py CHECKPOINT --model CONFIG

Reads what configs/zero_shot/cifar10_folder.py reads, in both splits. pets_logistic.py is the same for another set.
Not run.
"""

_base_ = '../zero_shot/_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import labelled_images, loader, probe_loader

test_dataloader = dict(logistic=loader(labelled_images('cifar10_folder', _base_.data_root)))
test_evaluator = dict(
    logistic=dict(
        type='LogisticRegressionProbe',
        train_dataloader=probe_loader('cifar10_folder', _base_.data_root),
        metric='top1',
    )
)
