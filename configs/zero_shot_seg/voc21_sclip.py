"""Pascal VOC 2012, 20 classes and background, 1,449 validation images, under SCLIP's protocol.

python tools/test.py configs/zero_shot_seg/voc21_sclip.py CKPT --model CONFIG_OF_CKPT

The words of the background are those of Pascal Context that are no object of VOC. As in SCLIP's config of this set, and
of no other, a class that fills at most a tenth of an image's foreground is removed (min_area).
Published: OpenAI's ViT-B/16 (OV-Stitcher, CVPR 2026 Findings, table 1): patch 18.6, value 43.4, ClearCLIP
51.8, SCLIP 59.1, NACLIP 58.9 mIoU. Not run.
"""

_base_ = ['./_base_/sclip.py', './_base_/sets/voc2012.py']

background = [
    'building', 'wall', 'floor', 'ceiling', 'door', 'window', 'curtain', 'cabinet', 'shelves', 'bed', 'light', 'fence',
    'road', 'sidewalk', 'ground', 'grass', 'tree', 'flower', 'wood', 'rock', 'mountain', 'sky', 'water', 'snow', 'sign',
]  # fmt: skip
test_dataloader = dict(segmentation=dict(dataset=_base_.images))
test_cfg = dict(
    num_images=1449,
    segmentor=dict(classes='voc20', queries=dict(scale=65, threshold=0.1, background=background, min_area=0.1)),
)
