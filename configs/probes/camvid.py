"""Linear segmentation probe on CamVid: 367 training images, 233 test images, 11 classes.

python tools/test.py configs/probes/camvid.py CHECKPOINT --model CONFIG

Images of 480 x 360 are squashed to 224 x 224, which patches of 8, 14, 16 and 32 divide, whatever the model's own size.
Set MMMASKCLIP_DATA to the folder that holds camvid/. To run it while training, put the task into val_dataloader and
val_evaluator of that config. Not run.
"""

_base_ = '../_base_/evaluation_runtime.py'

# Inside Compose, where tools/test.py --model does not change it: with one number the shorter side would get it, and the
# longer one might be no multiple of the patch.
transforms = [
    dict(type='torchvision/Compose', transforms=[dict(type='torchvision/Resize', size=(224, 224))]),
]
camvid = dict(type='mmseg.BaseSegDataset', data_root='{{$MMMASKCLIP_DATA:data}}/camvid')

test_dataloader = dict(
    linear_segmentation=dict(
        batch_size=32,
        num_workers=2,
        **_base_.in_order,
        dataset=dict(
            type='SegmentationImages',
            source=dict(**camvid, data_prefix=dict(img_path='images/test', seg_map_path='masks/test')),
            transforms=transforms,
            num_samples=233,
        ),
    )
)
test_evaluator = dict(
    linear_segmentation=dict(
        type='LinearSegmentationProbe',
        train_dataloader=dict(
            batch_size=32,
            num_workers=2,
            dataset=dict(
                type='SegmentationImages',
                source=dict(**camvid, data_prefix=dict(img_path='images/train', seg_map_path='masks/train')),
                transforms=transforms,
                num_samples=367,
            ),
        ),
        num_classes=11,
        # What the data set leaves out.
        ignore_index=11,
    )
)
