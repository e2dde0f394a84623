"""Pascal Context, 59 classes and background, 5,104 or 5,105 validation images, under SCLIP's protocol.

python tools/test.py configs/zero_shot_seg/context60_sclip.py CKPT --model CONFIG_OF_CKPT

Published: OpenAI's ViT-B/16 (OV-Stitcher, CVPR 2026 Findings, table 1): patch 7.8, value 23.2, ClearCLIP
32.6, SCLIP 30.4, NACLIP 32.2 mIoU. Not run.
"""

_base_ = ['./_base_/sclip.py', './_base_/sets/context.py']

test_dataloader = dict(segmentation=dict(dataset=dict(type='mmseg.PascalContextDataset', **_base_.images)))
test_cfg = dict(
    num_images=_base_.num_images, segmentor=dict(classes='context59', queries=dict(scale=50, threshold=0.1))
)
