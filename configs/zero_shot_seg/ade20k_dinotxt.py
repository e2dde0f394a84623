"""ADE20K, 150 classes, 2,000 validation images, under dino.txt's protocol.

python tools/test.py configs/zero_shot_seg/ade20k_dinotxt.py CKPT --model CONFIG_OF_CKPT

Published: DINOv3's text-aligned ViT-L 24.7 mIoU (its paper, table 16, as quoted in dinov3 issue 64).
Not run.
"""

_base_ = ['./_base_/dinotxt.py', './_base_/sets/ade20k.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
test_cfg = dict(num_images=2000)
