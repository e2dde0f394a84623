"""COCO-Object, 80 classes, 5,000 validation images, under dino.txt's protocol.

python tools/test.py configs/zero_shot_seg/coco_object81_dinotxt.py CKPT --model CONFIG_OF_CKPT

The protocol has no background: where it is, value 0 of the masks, is ignored.
Not run.
"""

_base_ = ['./_base_/dinotxt.py', './_base_/sets/coco_object.py']

test_dataloader = dict(segmentation=dict(dataset=dict(**_base_.images, background=False)))
test_cfg = dict(num_images=5000)
