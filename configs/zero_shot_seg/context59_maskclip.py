"""Pascal Context, 59 classes, 5,104 or 5,105 validation images, under MaskCLIP's protocol.

python tools/test.py configs/zero_shot_seg/context59_maskclip.py CKPT --model CONFIG_OF_CKPT

Layout of mmseg: data/VOCdevkit/VOC2010/JPEGImages and SegmentationClassContext, by mmseg's
tools/dataset_converters/pascal_context.py. Not run.
"""

_base_ = ['./_base_/maskclip.py', './_base_/sets/context.py']

pipeline = [
    dict(type='mmseg.LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=(2048, 480), keep_ratio=True),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
test_dataloader = dict(
    segmentation=dict(dataset=dict(type='mmseg.PascalContextDataset59', **_base_.images, pipeline=pipeline))
)
test_cfg = dict(num_images=_base_.num_images, segmentor=dict(classes='context59'))
