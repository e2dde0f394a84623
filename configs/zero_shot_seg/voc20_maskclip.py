"""Pascal VOC 2012, 20 classes without background, 1,449 validation images, under MaskCLIP's protocol.

python tools/test.py configs/zero_shot_seg/voc20_maskclip.py CKPT --model CONFIG_OF_CKPT

Not run.
"""

_base_ = ['./_base_/maskclip.py', './_base_/sets/voc2012.py']

test_dataloader = dict(segmentation=dict(dataset=dict(**_base_.images, metainfo=dict(classes=_base_.objects))))
test_cfg = dict(num_images=1449, segmentor=dict(classes='voc20'))
