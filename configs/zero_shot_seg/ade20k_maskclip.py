"""ADE20K, 150 classes, 2,000 validation images, under MaskCLIP's protocol.

python tools/test.py configs/zero_shot_seg/ade20k_maskclip.py CKPT --model CONFIG_OF_CKPT

Layout of mmseg: data/ade/ADEChallengeData2016/{images,annotations}/validation. Not run.
"""

_base_ = ['./_base_/maskclip.py', './_base_/sets/ade20k.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
test_cfg = dict(num_images=2000)
