"""Logistic regression on Oxford-IIIT Pets: 3,680 training images, 3,669 test images, mean accuracy per class.

python tools/test.py configs/probes/pets_logistic.py CHECKPOINT --model CONFIG

The pattern for every set of the suites: the set's own config gives test split, classes and metric; below stand the
training split (`source`, `folder`, `shards`, `num_samples`; `transforms` stay those of the test) and the probe.
Few-shot with test_evaluator.pets.shots="[1,5,10,20,50]"; the linear probe with type='LinearClassificationProbe' and a
batch_size that gives some hundreds of steps. Not run.
"""

_base_ = '../zero_shot/pets.py'

test_evaluator = dict(
    pets=dict(
        _delete_=True,
        type='LogisticRegressionProbe',
        metric='mean_per_class',
        train_dataloader=dict(
            batch_size=256,
            num_workers=4,
            dataset=dict(
                **_base_.images,
                source=dict(type='torchvision/OxfordIIITPet', root=_base_.data_root, split='trainval'),
                folder=_base_.data_root + '/oxford-iiit-pet',
                shards=_base_.data_root + '/wds_vtab-pets/train/*.tar',
                classes='pets',
                num_samples=3680,
                num_classes=37,
                get='torchvision.datasets.OxfordIIITPet(root, download=True) gets it.',
            ),
        ),
    )
)
