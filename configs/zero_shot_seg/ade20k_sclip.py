"""ADE20K, 150 classes, 2,000 validation images, under SCLIP's protocol.

python tools/test.py configs/zero_shot_seg/ade20k_sclip.py CKPT --model CONFIG_OF_CKPT

Published: OpenAI's ViT-B/16 (OV-Stitcher, CVPR 2026 Findings, table 1): patch 3.2, value 11.9, ClearCLIP
16.7, SCLIP 16.1, NACLIP 17.4 mIoU. Not run.
"""

_base_ = ['./_base_/sclip.py', './_base_/sets/ade20k.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
test_cfg = dict(num_images=2000)
