"""UperNet on ADE20K with MaskCLIP's ViT-B/16: 160k iterations of 16 images at 512 x 512.

tools/dist_train.sh configs/upernet/vitb16_ade20k.py 8 --amp fp16 \
    --cfg-options model.backbone.init_cfg.checkpoint=PRETRAINED.pth
python tools/test.py configs/upernet/vitb16_ade20k.py work_dirs/upernet/vitb16_ade20k/iter_160000.pth --show-dir DIR

Published mIoU, single scale: 49.6 from LAION-20M (arXiv v1, Table 1; CLIP 45.8), 50.5 from YFCC15M (supplement, Table
2; CLIP+MAE 49.1). Here: not run at full scale. Data in mmseg's layout, data/ade/ADEChallengeData2016. Without weights,
from a random start: --cfg-options model.backbone.init_cfg=None.
"""

_base_ = './_base_/recipe.py'

ade20k = dict(type='mmseg.ADE20KDataset', data_root='data/ade/ADEChallengeData2016')
# mmseg's defaults, as the supplement says.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='mmseg.RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='mmseg.PackSegInputs'),
]
# mmseg's inferencers look for steps named LoadImageFromFile and LoadAnnotations, without a package.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=(2048, 512), keep_ratio=True),
    # After the resize: masks keep their size, and predictions are brought to it.
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='mmseg.PackSegInputs'),
]
train_dataloader = dict(
    dataset=dict(
        **ade20k,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        **ade20k,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
