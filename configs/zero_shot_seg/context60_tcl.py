"""Pascal Context, 59 classes and background, 5,104 or 5,105 validation images, under TCL's protocol.

python tools/test.py configs/zero_shot_seg/context60_tcl.py CKPT --model CONFIG_OF_CKPT

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
# TCL's threshold without PAMR, on the probabilities of the part of TCL that is not trained (ZeroShotSegHead).
# 5,105 in the paper (Mottaghi et al. 2014); mmseg's converter writes 5,104 (open-mmlab/mmsegmentation#394).
test_cfg = dict(num_images=(5104, 5105), segmentor=dict(background_threshold=0.5))
