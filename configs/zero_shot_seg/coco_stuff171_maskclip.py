"""COCO-Stuff 164k, 171 classes, 5,000 validation images, under MaskCLIP's protocol.

python tools/test.py configs/zero_shot_seg/coco_stuff171_maskclip.py CKPT --model CONFIG_OF_CKPT

Layout of mmseg: data/coco_stuff164k/images/val2017 and annotations/val2017/*_labelTrainIds.png, by mmseg's
tools/dataset_converters/coco_stuff164k.py. Not run.
"""

_base_ = ['./_base_/maskclip.py', './_base_/sets/coco_stuff.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
test_cfg = dict(num_images=5000, segmentor=dict(classes='coco_stuff171'))
