"""Zero-shot on KITTI distance, val split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/kitti_distance.py CHECKPOINT --model CONFIG

A fifth of KITTI's training images; VISSL's script draws it without a seed, so every copy has another split.
CLIP_benchmark's export is VTAB's test split, see kitti_distance_icinw.py. Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    kitti_distance=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/ImageFolder', root=_base_.data_root + '/kitti_distance/val'),
            folder=_base_.data_root + '/kitti_distance/val',
            classes='kitti_distance',
            num_samples=1496,
            num_classes=4,
            folders=['above_20', 'below_20', 'below_8', 'no_vehicle'],
            get=(
                "One folder per class: above_20, below_20, below_8, no_vehicle (VISSL's "
                'create_kitti_dist_data_files.py).'
            ),
        ),
    )
)
test_evaluator = dict(kitti_distance=dict(type='ZeroShotClassification', classes='kitti_distance', metric='top1'))
