"""k-NN probe on CIFAR-10: 50,000 training images, 10,000 test images; DINO's k = 20 and temperature 0.07.

python tools/test.py configs/probes/cifar10.py CHECKPOINT --model CONFIG

Reads what configs/zero_shot/cifar10.py reads, in both splits. To run it while training, put the task `knn` into
val_dataloader and val_evaluator of that config. Not run.
"""

_base_ = '../zero_shot/_base_/task.py'

cifar10 = dict(
    **_base_.images,
    folder=_base_.data_root + '/cifar-10-batches-py',
    classes='cifar10',
    num_classes=10,
    get='torchvision.datasets.CIFAR10(root, download=True) gets it.',
)
train_dataloader_of_probe = dict(
    batch_size=256,
    num_workers=4,
    dataset=dict(
        **cifar10,
        source=dict(type='torchvision/CIFAR10', root=_base_.data_root, train=True),
        shards=_base_.data_root + '/wds_vtab-cifar10/train/*.tar',
        num_samples=50000,
    ),
)
test_dataloader = dict(
    knn=dict(
        **_base_.loader,
        dataset=dict(
            **cifar10,
            source=dict(type='torchvision/CIFAR10', root=_base_.data_root, train=False),
            shards=_base_.data_root + '/wds_vtab-cifar10/test/*.tar',
            num_samples=10000,
        ),
    )
)
test_evaluator = dict(knn=dict(type='KNNClassification', train_dataloader=train_dataloader_of_probe))
