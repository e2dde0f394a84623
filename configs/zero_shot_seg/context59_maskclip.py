"""Pascal Context, 59 classes, 5,104 or 5,105 validation images, under MaskCLIP's protocol.

python tools/test.py configs/zero_shot_seg/context59_maskclip.py CKPT --model CONFIG_OF_CKPT

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
# 5,105 in the paper (Mottaghi et al. 2014); mmseg's converter writes 5,104 (open-mmlab/mmsegmentation#394).
test_cfg = dict(num_images=(5104, 5105), segmentor=dict(classes='context59'))
