"""Zero-shot on Country211, test split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/country211.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    country211=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/Country211', root=_base_.data_root, split='test'),
            folder=_base_.data_root + '/country211',
            shards=_base_.data_root + '/wds_country211/test/*.tar',
            classes='country211',
            num_samples=21100,
            num_classes=211,
            get='torchvision.datasets.Country211(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(country211=dict(type='ZeroShotClassification', classes='country211', metric='top1'))
