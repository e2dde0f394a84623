"""Zero-shot on RESISC45, test split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/resisc45.py CHECKPOINT --model CONFIG

A fifth of the set, as VISSL's script draws it; CLIP_benchmark's export is VTAB's, as many images, but others. Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    resisc45=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/ImageFolder', root=_base_.data_root + '/resisc45/test'),
            folder=_base_.data_root + '/resisc45/test',
            shards=_base_.data_root + '/wds_vtab-resisc45/test/*.tar',
            classes='resisc45',
            num_samples=6300,
            num_classes=45,
            get="NWPU-RESISC45, sorted by VISSL's create_resisc45_data_files.py: one folder per class.",
        ),
    )
)
test_evaluator = dict(resisc45=dict(type='ZeroShotClassification', classes='resisc45', metric='top1'))
