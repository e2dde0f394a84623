"""COCO-Stuff 164k, 171 classes, 5,000 validation images, under TIPS's protocol.

python tools/test.py configs/zero_shot_seg/coco_stuff171_tips.py CKPT --model CONFIG_OF_CKPT

Not run.
"""

_base_ = ['./_base_/tips.py', './_base_/sets/coco_stuff.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
test_cfg = dict(num_images=5000)
