"""Pascal VOC 2012, 20 classes without background, 1,449 validation images, under SCLIP's protocol.

python tools/test.py configs/zero_shot_seg/voc20_sclip.py CKPT --model CONFIG_OF_CKPT

Published: OpenAI's ViT-B/16 (OV-Stitcher, CVPR 2026 Findings, table 1): patch 49.1, value 74.9, ClearCLIP
80.9, SCLIP 80.4, NACLIP 79.7 mIoU. Not run.
"""

_base_ = ['./_base_/sclip.py', './_base_/sets/voc2012.py']

test_dataloader = dict(segmentation=dict(dataset=dict(**_base_.images, metainfo=dict(classes=_base_.objects))))
test_cfg = dict(num_images=1449, segmentor=dict(classes='voc20'))
