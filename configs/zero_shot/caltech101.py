"""Zero-shot on Caltech-101, test split with the background class: SLIP's prompts, mean accuracy per class.

python tools/test.py configs/zero_shot/caltech101.py CHECKPOINT --model CONFIG

30 images of each class are for training. SLIP drew them itself (VISSL's script), and so
did CLIP, whose draw ICinW has; this is mmpretrain's: as many images, but others. Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    caltech101=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='mmpretrain.Caltech101', data_root=_base_.data_root + '/caltech-101', split='test'),
            folder=_base_.data_root + '/caltech-101',
            shards=_base_.data_root + '/wds_vtab-caltech101/test/*.tar',
            classes='caltech101',
            num_samples=6084,
            num_classes=102,
            get="Unpack 101_ObjectCategories there, and mmpretrain's lists to meta/.",
        ),
    )
)
test_evaluator = dict(caltech101=dict(type='ZeroShotClassification', classes='caltech101', metric='mean_per_class'))
