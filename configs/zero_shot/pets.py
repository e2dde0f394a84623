"""Zero-shot on Oxford-IIIT Pets, test split: SLIP's prompts, mean accuracy per class.

python tools/test.py configs/zero_shot/pets.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    pets=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/OxfordIIITPet', root=_base_.data_root, split='test'),
            folder=_base_.data_root + '/oxford-iiit-pet',
            shards=_base_.data_root + '/wds_vtab-pets/test/*.tar',
            classes='pets',
            num_samples=3669,
            num_classes=37,
            get='torchvision.datasets.OxfordIIITPet(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(pets=dict(type='ZeroShotClassification', classes='pets', metric='mean_per_class'))
