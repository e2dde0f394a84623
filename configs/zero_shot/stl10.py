"""Zero-shot on STL-10, test split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/stl10.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    stl10=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/STL10', root=_base_.data_root, split='test'),
            folder=_base_.data_root + '/stl10_binary',
            shards=_base_.data_root + '/wds_stl10/test/*.tar',
            classes='stl10',
            num_samples=8000,
            num_classes=10,
            get='torchvision.datasets.STL10(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(stl10=dict(type='ZeroShotClassification', classes='stl10', metric='top1'))
