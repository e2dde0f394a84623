"""Zero-shot on EuroSAT, images 1,000 to 1,499 of each class: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/eurosat.py CHECKPOINT --model CONFIG

The split is that of VISSL's script, which SLIP names; CLIP_benchmark's export is another one, of 5,400 images. Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    eurosat=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/EuroSAT', root=_base_.data_root),
            folder=_base_.data_root + '/eurosat',
            classes='eurosat',
            num_samples=5000,
            num_classes=10,
            per_class=(1000, 1500),
            get='torchvision.datasets.EuroSAT(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(eurosat=dict(type='ZeroShotClassification', classes='eurosat', metric='top1'))
