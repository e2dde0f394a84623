"""CamVid, 11 classes, 233 test images of 480 x 360, by a model that was trained at 112 px.

python tools/test.py configs/zero_shot_seg/camvid_maskclip.py CKPT --model configs/clip/vitt16_flickr8k.py

MaskCLIP's protocol at half its sizes: shorter side 256, windows of 112 every 56 px. Set MMMASKCLIP_DATA to the folder
that holds camvid/.
Measured on 2026-11-22, towers trained on Flickr8k: CLIP 12.1 mIoU, MaskCLIP v1 8.0. More in docs/results.md.
"""

_base_ = './_base_/maskclip.py'
custom_imports = dict(
    imports=['mmmaskclip.datasets.evaluation.segmentation_sets', 'mmmaskclip.evaluation.checked_iou_metric']
)

pipeline = [
    dict(type='mmseg.LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=(2048, 256), keep_ratio=True),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
test_dataloader = dict(
    segmentation=dict(
        dataset=dict(
            type='CamVidDataset',
            data_root='{{$MMMASKCLIP_DATA:data}}/camvid',
            data_prefix=dict(img_path='images/test', seg_map_path='masks/test'),
            pipeline=pipeline,
        )
    )
)
test_evaluator = dict(segmentation=dict(ignore_index=11))
test_cfg = dict(num_images=233, segmentor=dict(test_cfg=dict(crop_size=(112, 112), stride=(56, 56))))
