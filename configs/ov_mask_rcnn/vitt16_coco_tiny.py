"""Open-vocabulary Mask R-CNN on 80 images of COCO at 224 px, from a ViT-Ti/16, tested on its TRAINING images.

python tools/train.py configs/ov_mask_rcnn/vitt16_coco_tiny.py

A check that it learns, not a benchmark. From a MaskCLIP v1 of Flickr8k: loss 25.4 to 1.4, box AP of the base classes,
whose boxes it has seen, 9.0 (AP50 14.9); of the novel ones, of which it knows only the names, 0.0 (2026-11-23, one
core, 22 minutes beside other work). Sizes and schedule are ours.
"""

_base_ = './vitb16_coco_48_17.py'

model = dict(
    backbone=dict(
        arch='ViT-Ti/16',
        img_size=112,
        init_cfg=dict(checkpoint='work_dirs/maskclip/vitt16_flickr8k_v1/epoch_10.pth'),
    ),
    neck=[
        dict(type='mmseg.Feature2Pyramid', embed_dim=192, norm_cfg=dict(type='SyncBN')),
        dict(type='mmdet.FPN', in_channels=[192] * 4, out_channels=64, num_outs=5),
    ],
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(
            in_channels=64,
            fc_out_channels=256,
            cls_predictor_cfg=dict(
                text=dict(
                    encoder=dict(width=256, num_layers=6, num_heads=4),
                    projection=dict(in_channels=256, embed_dims=256),
                    checkpoint='work_dirs/maskclip/vitt16_flickr8k_v1/epoch_10.pth',
                ),
            ),
        ),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=250), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=250)),
)

train_pipeline = [
    dict(type='mmcv.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='mmdet.Resize', scale=(224, 224), keep_ratio=True),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='mmcv.LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(224, 224), keep_ratio=True),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='mmdet.PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=2,
    dataset=dict(data_root='{{$MMMASKCLIP_DATA:../shared/data}}/coco_tiny', pipeline=train_pipeline),
)
val_dataloader = dict(
    dataset=dict(
        data_root='{{$MMMASKCLIP_DATA:../shared/data}}/coco_tiny',
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file='{{$MMMASKCLIP_DATA:../shared/data}}/coco_tiny/annotations/instances_train2017.json',
)
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=3e-4))
train_cfg = dict(max_epochs=40, val_interval=20)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=40, milestones=[27, 36], gamma=0.1),
]

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(by_epoch=True, interval=20))
