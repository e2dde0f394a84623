"""Cityscapes, 19 classes, 500 validation images, under TIPS's protocol.

python tools/test.py configs/zero_shot_seg/cityscapes19_tips.py CKPT --model CONFIG_OF_CKPT

Not run.
"""

_base_ = ['./_base_/tips.py', './_base_/sets/cityscapes.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
test_cfg = dict(num_images=500)
