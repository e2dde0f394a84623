"""ADE20K, 150 classes, 2,000 validation images, under TIPS's protocol.

python tools/test.py configs/zero_shot_seg/ade20k_tips.py CKPT --model CONFIG_OF_CKPT

Published: TIPSv2-L 24.7 mIoU, TIPSv2-B 17.4 (their README).
Not run.
"""

_base_ = ['./_base_/tips.py', './_base_/sets/ade20k.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
test_cfg = dict(num_images=2000)
