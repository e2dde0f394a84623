"""Zero-shot on KITTI distance, VTAB's test split: SLIP's prompts, top-1; for ICinW.

python tools/test.py configs/zero_shot/kitti_distance_icinw.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './kitti_distance.py'

test_dataloader = dict(
    kitti_distance=dict(
        dataset=dict(
            transforms=_base_.bicubic,
            source=dict(type='torchvision/ImageFolder', root=_base_.data_root + '/kitti_distance_icinw/test'),
            folder=_base_.data_root + '/kitti_distance_icinw/test',
            shards=_base_.data_root + '/wds_vtab-kitti_closest_vehicle_distance/test/*.tar',
            num_samples=711,
            # VTAB counts from the closest distance on.
            shards_label_order=[2, 1, 0, 3],
            get='One folder per class: above_20, below_20, below_8, no_vehicle.',
        )
    )
)
