"""COCO-Object, 80 classes and background, 5,000 validation images, under TIPS's protocol.

python tools/test.py configs/zero_shot_seg/coco_object81_tips.py CKPT --model CONFIG_OF_CKPT

The threshold is TCL's.
Not run.
"""

_base_ = ['./_base_/tips.py', './_base_/sets/coco_object.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
test_cfg = dict(num_images=5000, segmentor=dict(background_threshold=0.5))
