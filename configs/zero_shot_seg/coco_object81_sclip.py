"""COCO-Object, 80 classes and background, 5,000 validation images, under SCLIP's protocol.

python tools/test.py configs/zero_shot_seg/coco_object81_sclip.py CKPT --model CONFIG_OF_CKPT

Published: OpenAI's ViT-B/16 (OV-Stitcher, CVPR 2026 Findings, table 1): patch 6.5, value 20.6, ClearCLIP
33.0, SCLIP 30.5, NACLIP 33.2 mIoU. Not run.
"""

_base_ = ['./_base_/sclip.py', './_base_/sets/coco_object.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
test_cfg = dict(num_images=5000, segmentor=dict(classes='coco80', queries=dict(scale=50, threshold=0.1)))
