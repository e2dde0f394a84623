"""Zero-shot on MNIST, test split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/mnist.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    mnist=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/MNIST', root=_base_.data_root, train=False),
            folder=_base_.data_root + '/MNIST',
            shards=_base_.data_root + '/wds_mnist/test/*.tar',
            classes='mnist',
            num_samples=10000,
            num_classes=10,
            get='torchvision.datasets.MNIST(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(mnist=dict(type='ZeroShotClassification', classes='mnist', metric='top1'))
