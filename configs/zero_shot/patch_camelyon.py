"""Zero-shot on PatchCamelyon, val split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/patch_camelyon.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    patch_camelyon=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/PCAM', root=_base_.data_root, split='val'),
            folder=_base_.data_root + '/pcam',
            shards=_base_.data_root + '/wds_vtab-pcam/val/*.tar',
            classes='patch_camelyon',
            num_samples=32768,
            num_classes=2,
            get='torchvision.datasets.PCAM(root, download=True) gets it; needs h5py.',
        ),
    )
)
test_evaluator = dict(patch_camelyon=dict(type='ZeroShotClassification', classes='patch_camelyon', metric='top1'))
