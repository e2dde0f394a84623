"""Pascal Context, 59 classes, 5,104 or 5,105 validation images, under SCLIP's protocol.

python tools/test.py configs/zero_shot_seg/context59_sclip.py CKPT --model CONFIG_OF_CKPT

Published: OpenAI's ViT-B/16 (OV-Stitcher, CVPR 2026 Findings, table 1): patch 11.2, value 26.4, ClearCLIP
35.9, SCLIP 34.2, NACLIP 35.2 mIoU. Not run.
"""

_base_ = ['./_base_/sclip.py', './_base_/sets/context.py']

test_dataloader = dict(segmentation=dict(dataset=dict(type='mmseg.PascalContextDataset59', **_base_.images)))
test_cfg = dict(num_images=_base_.num_images, segmentor=dict(classes='context59'))
