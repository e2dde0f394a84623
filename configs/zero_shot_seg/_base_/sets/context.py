# Layout of mmseg: data/VOCdevkit/VOC2010/JPEGImages and SegmentationClassContext, by mmseg's
# tools/dataset_converters/pascal_context.py. A config adds the type: with or without background.
images = dict(
    data_root='data/VOCdevkit/VOC2010',
    ann_file='ImageSets/SegmentationContext/val.txt',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
)
# 5,105 in the paper (Mottaghi et al. 2014); mmseg's converter writes 5,104 (open-mmlab/mmsegmentation#394).
num_images = (5104, 5105)
