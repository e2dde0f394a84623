"""Zero-shot on CIFAR-100, test split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/cifar100.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    cifar100=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/CIFAR100', root=_base_.data_root, train=False),
            folder=_base_.data_root + '/cifar-100-python',
            shards=_base_.data_root + '/wds_vtab-cifar100/test/*.tar',
            classes='cifar100',
            num_samples=10000,
            num_classes=100,
            get='torchvision.datasets.CIFAR100(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(cifar100=dict(type='ZeroShotClassification', classes='cifar100', metric='top1'))
