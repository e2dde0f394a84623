"""Zero-shot on Stanford Cars, test split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/cars.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    cars=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/StanfordCars', root=_base_.data_root, split='test'),
            folder=_base_.data_root + '/stanford_cars',
            shards=_base_.data_root + '/wds_cars/test/*.tar',
            classes='cars',
            num_samples=8041,
            num_classes=196,
            get='torchvision.datasets.StanfordCars names the files; needs scipy.',
        ),
    )
)
test_evaluator = dict(cars=dict(type='ZeroShotClassification', classes='cars', metric='top1'))
