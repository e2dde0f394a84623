"""Zero-shot on CIFAR-10, test split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/cifar10.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    cifar10=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/CIFAR10', root=_base_.data_root, train=False),
            folder=_base_.data_root + '/cifar-10-batches-py',
            shards=_base_.data_root + '/wds_vtab-cifar10/test/*.tar',
            classes='cifar10',
            num_samples=10000,
            num_classes=10,
            get='torchvision.datasets.CIFAR10(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(cifar10=dict(type='ZeroShotClassification', classes='cifar10', metric='top1'))
