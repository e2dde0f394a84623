"""Zero-shot on Describable Textures, test split of the first partition: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/dtd.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    dtd=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/DTD', root=_base_.data_root, split='test'),
            folder=_base_.data_root + '/dtd',
            shards=_base_.data_root + '/wds_vtab-dtd/test/*.tar',
            classes='dtd',
            num_samples=1880,
            num_classes=47,
            get='torchvision.datasets.DTD(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(dtd=dict(type='ZeroShotClassification', classes='dtd', metric='top1'))
