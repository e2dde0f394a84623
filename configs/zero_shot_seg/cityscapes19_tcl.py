"""Cityscapes, 19 classes, 500 validation images, under TCL's protocol.

python tools/test.py configs/zero_shot_seg/cityscapes19_tcl.py CKPT --model CONFIG_OF_CKPT

Layout of mmseg: data/cityscapes/{leftImg8bit,gtFine}/val, with mmseg's tools/dataset_converters/cityscapes.py. Not run.
"""

_base_ = ['./_base_/tcl.py', './_base_/sets/cityscapes.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
test_cfg = dict(num_images=500)
