"""Cityscapes, 19 classes, 500 validation images, under SCLIP's protocol.

python tools/test.py configs/zero_shot_seg/cityscapes19_sclip.py CKPT --model CONFIG_OF_CKPT

Published: OpenAI's ViT-B/16 (OV-Stitcher, CVPR 2026 Findings, table 1): patch 6.7, value 24.9, ClearCLIP
30.0, SCLIP 32.2, NACLIP 35.5 mIoU. Not run.
"""

_base_ = ['./_base_/sclip.py', './_base_/sets/cityscapes.py']

pipeline = [
    dict(type='mmseg.LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=(2048, 560), keep_ratio=True),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
test_dataloader = dict(segmentation=dict(dataset=dict(**_base_.images, pipeline=pipeline)))
test_cfg = dict(num_images=500)
