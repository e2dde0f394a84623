"""Pascal Context, 59 classes and background, 5,104 or 5,105 validation images, under TCL's protocol.

python tools/test.py configs/zero_shot_seg/context60_tcl.py CKPT --model CONFIG_OF_CKPT

Layout of mmseg: data/VOCdevkit/VOC2010/JPEGImages and SegmentationClassContext, by mmseg's
tools/dataset_converters/pascal_context.py. Not run.
"""

_base_ = ['./_base_/tcl.py', './_base_/sets/context.py']

test_dataloader = dict(segmentation=dict(dataset=dict(type='mmseg.PascalContextDataset', **_base_.images)))
# TCL's threshold without PAMR, on the probabilities of the part of TCL that is not trained (ZeroShotSegHead).
test_cfg = dict(num_images=_base_.num_images, segmentor=dict(background_threshold=0.5))
