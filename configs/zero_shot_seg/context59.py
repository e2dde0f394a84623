"""Pascal Context, 59 classes, the validation images, under MaskCLIP's protocol.

python tools/test.py configs/zero_shot_seg/context59.py CKPT --model CONFIG_OF_CKPT

Layout of mmseg: data/VOCdevkit/VOC2010/JPEGImages and SegmentationClassContext, by mmseg's
tools/dataset_converters/pascal_context.py.
"""

_base_ = './_base_/maskclip.py'

pipeline = [
    dict(type='mmseg.LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=(2048, 480), keep_ratio=True),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
test_dataloader = dict(
    segmentation=dict(
        dataset=dict(
            type='mmseg.PascalContextDataset59',
            data_root='data/VOCdevkit/VOC2010',
            ann_file='ImageSets/SegmentationContext/val.txt',
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
            pipeline=pipeline,
        )
    )
)
test_cfg = dict(segmentor=dict(classes='context59'))
