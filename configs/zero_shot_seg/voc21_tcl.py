"""Pascal VOC 2012, 20 classes and background, 1,449 validation images, under TCL's protocol.

python tools/test.py configs/zero_shot_seg/voc21_tcl.py CKPT --model CONFIG_OF_CKPT

Layout of mmseg: data/VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation}. Not run.
"""

_base_ = ['./_base_/tcl.py', './_base_/sets/voc2012.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
# TCL's threshold without PAMR, on the probabilities of the part of TCL that is not trained (ZeroShotSegHead).
test_cfg = dict(num_images=1449, segmentor=dict(background_threshold=0.5))
