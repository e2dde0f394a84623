"""Zero-shot on Food-101, test split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/food101.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    food101=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/Food101', root=_base_.data_root, split='test'),
            folder=_base_.data_root + '/food-101',
            shards=_base_.data_root + '/wds_food101/test/*.tar',
            classes='food101',
            num_samples=25250,
            num_classes=101,
            get='torchvision.datasets.Food101(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(food101=dict(type='ZeroShotClassification', classes='food101', metric='top1'))
