"""Pascal Context, 59 classes and background, the validation images, under TCL's protocol.

python tools/test.py configs/zero_shot_seg/context60.py CKPT --model CONFIG_OF_CKPT

Layout of mmseg: data/VOCdevkit/VOC2010/JPEGImages and SegmentationClassContext, by mmseg's
tools/dataset_converters/pascal_context.py.
"""

_base_ = './_base_/tcl.py'

test_dataloader = dict(
    segmentation=dict(
        dataset=dict(
            type='mmseg.PascalContextDataset',
            data_root='data/VOCdevkit/VOC2010',
            ann_file='ImageSets/SegmentationContext/val.txt',
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
        )
    )
)
# TCL's threshold without PAMR. TCL learns the scale of its probabilities; that of this softmax is SCLIP's.
test_cfg = dict(segmentor=dict(classes='context59', background_threshold=0.5))
