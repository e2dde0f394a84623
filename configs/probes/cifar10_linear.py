"""Linear probe on CIFAR-10 as JPEG files (5,000 + 5,000 images), on features of one pass: MaskCLIP's recipe in seconds.

tar xf train.tar --one-top-level=data/zero_shot/cifar10_folder
tar xf test.tar --one-top-level=data/zero_shot/cifar10_folder
python tools/test.py configs/probes/cifar10_linear.py CHECKPOINT --model CONFIG

CHECKPOINT 'none' gives the random tower's. Reads what configs/zero_shot/cifar10_folder.py reads, in both splits; the
official 50,000 + 10,000: the data of configs/probes/cifar10.py. 90 epochs of 9 steps of 512 images (ours; the paper's
16384 are more than there are), lr as published. Not run.
"""

_base_ = '../zero_shot/_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import labelled_images, loader, probe_loader

test_dataloader = dict(linear=loader(labelled_images('cifar10_folder', _base_.data_root)))
test_evaluator = dict(
    linear=dict(
        type='LinearClassificationProbe',
        train_dataloader=probe_loader('cifar10_folder', _base_.data_root),
        metric='top1',
        epochs=90,
        warmup_epochs=10,
        batch_size=512,
        lr=6.4,
    )
)
