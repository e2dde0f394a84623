"""COCO-Stuff 164k, 171 classes, 5,000 validation images, under SCLIP's protocol.

python tools/test.py configs/zero_shot_seg/coco_stuff171_sclip.py CKPT --model CONFIG_OF_CKPT

Published: OpenAI's ViT-B/16 (OV-Stitcher, CVPR 2026 Findings, table 1): patch 5.7, value 16.7, ClearCLIP
23.9, SCLIP 22.4, NACLIP 23.3 mIoU. Not run.
"""

_base_ = ['./_base_/sclip.py', './_base_/sets/coco_stuff.py']

pipeline = [
    dict(type='mmseg.LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=(2048, 448), keep_ratio=True),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
test_dataloader = dict(segmentation=dict(dataset=dict(**_base_.images, pipeline=pipeline)))
test_cfg = dict(num_images=5000, segmentor=dict(classes='coco_stuff171'))
