"""COCO-Object, 80 classes, 5,000 validation images, under MaskCLIP's protocol.

python tools/test.py configs/zero_shot_seg/coco_object81_maskclip.py CKPT --model CONFIG_OF_CKPT

The protocol has no background: where it is, value 0 of the masks, is ignored. Layout of TCL:
data/coco_stuff164k/images/val2017 and annotations/val2017/*_instanceTrainIds.png, by TCL's
convert_dataset/convert_coco_object.py. Not run.
"""

_base_ = ['./_base_/maskclip.py', './_base_/sets/coco_object.py']

test_dataloader = dict(segmentation=dict(dataset=dict(**_base_.images, background=False)))
test_cfg = dict(num_images=5000)
