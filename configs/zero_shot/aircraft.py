"""Zero-shot on FGVC-Aircraft, variants, test split: SLIP's prompts, mean accuracy per class.

python tools/test.py configs/zero_shot/aircraft.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    aircraft=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/FGVCAircraft', root=_base_.data_root, split='test'),
            folder=_base_.data_root + '/fgvc-aircraft-2013b',
            shards=_base_.data_root + '/wds_fgvc_aircraft/test/*.tar',
            classes='aircraft',
            num_samples=3333,
            num_classes=100,
            get='torchvision.datasets.FGVCAircraft(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(aircraft=dict(type='ZeroShotClassification', classes='aircraft', metric='mean_per_class'))
