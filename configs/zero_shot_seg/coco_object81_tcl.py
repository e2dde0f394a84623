"""COCO-Object, 80 classes and background, 5,000 validation images, under TCL's protocol.

python tools/test.py configs/zero_shot_seg/coco_object81_tcl.py CKPT --model CONFIG_OF_CKPT

Layout of TCL: data/coco_stuff164k/images/val2017 and annotations/val2017/*_instanceTrainIds.png, by TCL's
convert_dataset/convert_coco_object.py. Not run.
"""

_base_ = ['./_base_/tcl.py', './_base_/sets/coco_object.py']

test_dataloader = dict(segmentation=dict(dataset=_base_.images))
# TCL's threshold without PAMR, on the probabilities of the part of TCL that is not trained (ZeroShotSegHead).
test_cfg = dict(num_images=5000, segmentor=dict(background_threshold=0.5))
