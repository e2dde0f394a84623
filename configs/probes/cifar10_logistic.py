"""Logistic regression on CIFAR-10 as JPEG files (5,000 + 5,000 images), C searched as CLIP does.

tar xf train.tar -C data/zero_shot/cifar10_folder; tar xf test.tar -C data/zero_shot/cifar10_folder
python tools/test.py configs/probes/cifar10_logistic.py CHECKPOINT --model CONFIG

Reads what configs/zero_shot/cifar10_folder.py reads, in both splits. For another set of the suites take its config as
the base and name its training split: pets_logistic.py shows how. Not run.
"""

_base_ = '../zero_shot/_base_/task.py'

cifar10 = dict(**_base_.images, classes='cifar10', num_classes=10, num_samples=5000)
train_folder = _base_.data_root + '/cifar10_folder/train'
test_folder = _base_.data_root + '/cifar10_folder/test'

test_dataloader = dict(
    logistic=dict(
        **_base_.loader,
        dataset=dict(**cifar10, source=dict(type='torchvision/ImageFolder', root=test_folder), folder=test_folder),
    )
)
test_evaluator = dict(
    logistic=dict(
        type='LogisticRegressionProbe',
        train_dataloader=dict(
            batch_size=256,
            num_workers=4,
            dataset=dict(
                **cifar10, source=dict(type='torchvision/ImageFolder', root=train_folder), folder=train_folder
            ),
        ),
        metric='top1',
    )
)
