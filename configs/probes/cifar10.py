"""k-NN probe on CIFAR-10: 50,000 training images, 10,000 test images; DINO's k = 20 and temperature 0.07.

python tools/test.py configs/probes/cifar10.py CHECKPOINT --model CONFIG

Reads what configs/zero_shot/cifar10.py reads, in both splits. To run it while training, put the task `knn` into
val_dataloader and val_evaluator of that config. Not run.
"""

_base_ = '../zero_shot/_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import labelled_images, loader, probe_loader

test_dataloader = dict(knn=loader(labelled_images('cifar10', _base_.data_root)))
test_evaluator = dict(
    knn=dict(type='KNNClassification', train_dataloader=probe_loader('cifar10', _base_.data_root)),
)
