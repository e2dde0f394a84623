"""Zero-shot on Rendered SST2, test split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/rendered_sst2.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    rendered_sst2=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/RenderedSST2', root=_base_.data_root, split='test'),
            folder=_base_.data_root + '/rendered-sst2',
            shards=_base_.data_root + '/wds_renderedsst2/test/*.tar',
            classes='rendered_sst2',
            num_samples=1821,
            num_classes=2,
            get='torchvision.datasets.RenderedSST2(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(rendered_sst2=dict(type='ZeroShotClassification', classes='rendered_sst2', metric='top1'))
