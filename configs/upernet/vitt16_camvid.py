"""UperNet on CamVid (367 training and 233 test images, 11 classes) with a ViT-Ti/16 of 112 px, on two cores.

python tools/train.py configs/upernet/vitt16_camvid.py --cfg-options model.backbone.init_cfg.checkpoint=PRETRAINED.pth
python tools/test.py configs/upernet/vitt16_camvid.py work_dirs/upernet/vitt16_camvid/iter_300.pth --show-dir DIR

ADE20K's recipe, smaller (ours): images of 341 x 256, crops of 224, heads of 64 channels, 300 iterations of 8 images at
a learning rate of 1e-3, 30 of them warm-up. Without weights, from a random start: --cfg-options
model.backbone.init_cfg=None. Set MMMASKCLIP_DATA to the folder that holds camvid/. On CPUs every process
needs at least 2 images: BN instead of SyncBN.
Measured on 2026-11-23, bfloat16, 6 to 9 minutes on one core of a busy machine: from a MaskCLIP v1 of Flickr8k mIoU 20.9
on the test images, from random init 19.9. More in docs/results.md.
"""

_base_ = './_base_/recipe.py'
custom_imports = dict(
    imports=[
        'mmmaskclip.models.heads.float32_segmentation',
        'mmmaskclip.datasets.evaluation.segmentation_sets',
        'mmmaskclip.evaluation.checked_iou_metric',
    ]
)

# What the 11 classes leave out; padding must count as it.
void = 11
model = dict(
    data_preprocessor=dict(size=(224, 224), seg_pad_val=void),
    backbone=dict(
        arch='ViT-Ti/16',
        img_size=224,
        init_cfg=dict(checkpoint='work_dirs/maskclip/vitt16_flickr8k_v1/epoch_10.pth'),
    ),
    neck=dict(embed_dim=192),
    decode_head=dict(in_channels=[192, 192, 192, 192], channels=64, num_classes=11, ignore_index=void),
    auxiliary_head=dict(in_channels=192, channels=64, num_classes=11, ignore_index=void),
    test_cfg=dict(crop_size=(224, 224), stride=(149, 149)),
)

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=30, end=300),
]
train_cfg = dict(max_iters=300, val_interval=300)
default_hooks = dict(checkpoint=dict(interval=300, save_best=None), logger=dict(interval=20))

camvid = dict(type='mmmaskclip.CamVidDataset', data_root='{{$MMMASKCLIP_DATA:data}}/camvid')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 256), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='mmseg.RandomCrop', crop_size=(224, 224), cat_max_ratio=0.75, ignore_index=void),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='mmseg.PackSegInputs'),
]
# mmseg's inferencers look for steps named LoadImageFromFile and LoadAnnotations, without a package.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=(2048, 256), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        **camvid,
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        **camvid,
        data_prefix=dict(img_path='images/val', seg_map_path='masks/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    num_workers=1,
    dataset=dict(
        **camvid,
        data_prefix=dict(img_path='images/test', seg_map_path='masks/test'),
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(ignore_index=void)
test_evaluator = val_evaluator
