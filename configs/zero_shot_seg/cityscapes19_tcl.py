"""Cityscapes, 19 classes, 500 validation images, under TCL's protocol.

python tools/test.py configs/zero_shot_seg/cityscapes19_tcl.py CKPT --model CONFIG_OF_CKPT

Layout of mmseg: data/cityscapes/{leftImg8bit,gtFine}/val, with mmseg's tools/dataset_converters/cityscapes.py. Not run.
"""

_base_ = './_base_/tcl.py'

test_dataloader = dict(
    segmentation=dict(
        dataset=dict(
            type='mmseg.CityscapesDataset',
            data_root='data/cityscapes',
            data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        )
    )
)
test_cfg = dict(num_images=500)
