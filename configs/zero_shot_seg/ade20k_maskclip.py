"""ADE20K, 150 classes, 2,000 validation images, under MaskCLIP's protocol.

python tools/test.py configs/zero_shot_seg/ade20k_maskclip.py CKPT --model CONFIG_OF_CKPT

Layout of mmseg: data/ade/ADEChallengeData2016/{images,annotations}/validation.
"""

_base_ = './_base_/maskclip.py'

test_dataloader = dict(
    segmentation=dict(
        dataset=dict(
            type='mmseg.ADE20KDataset',
            data_root='data/ade/ADEChallengeData2016',
            data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        )
    )
)
test_cfg = dict(num_images=2000)
