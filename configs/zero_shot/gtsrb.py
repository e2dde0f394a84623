"""Zero-shot on GTSRB, test split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/gtsrb.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    gtsrb=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/GTSRB', root=_base_.data_root, split='test'),
            folder=_base_.data_root + '/gtsrb',
            shards=_base_.data_root + '/wds_gtsrb/test/*.tar',
            classes='gtsrb',
            num_samples=12630,
            num_classes=43,
            get='torchvision.datasets.GTSRB(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(gtsrb=dict(type='ZeroShotClassification', classes='gtsrb', metric='top1'))
