"""Zero-shot on Oxford Flowers-102, test split: SLIP's prompts, mean accuracy per class.

python tools/test.py configs/zero_shot/flowers.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    flowers=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/Flowers102', root=_base_.data_root, split='test'),
            folder=_base_.data_root + '/flowers-102',
            shards=_base_.data_root + '/wds_vtab-flowers/test/*.tar',
            classes='flowers',
            num_samples=6149,
            num_classes=102,
            get='torchvision.datasets.Flowers102(root, download=True) gets it; needs scipy.',
        ),
    )
)
test_evaluator = dict(flowers=dict(type='ZeroShotClassification', classes='flowers', metric='mean_per_class'))
