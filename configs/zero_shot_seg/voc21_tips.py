"""Pascal VOC 2012, 20 classes and background, 1,449 validation images, under TIPS's protocol.

python tools/test.py configs/zero_shot_seg/voc21_tips.py CKPT --model CONFIG_OF_CKPT

The threshold is TCL's.
Not run.
"""

_base_ = ['./_base_/tips.py', './_base_/sets/voc2012.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
test_cfg = dict(num_images=1449, segmentor=dict(background_threshold=0.5))
