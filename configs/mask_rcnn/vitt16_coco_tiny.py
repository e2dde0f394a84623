"""Mask R-CNN on 80 images of COCO at 224 px, from a ViT-Ti/16: does it overfit? It is tested on its TRAINING images.

python tools/train.py configs/mask_rcnn/vitt16_coco_tiny.py \
    --cfg-options model.backbone.init_cfg.checkpoint=PATH

A check that everything works, not a benchmark. From a MaskCLIP v1 of Flickr8k: loss 8.1 to 0.8, box AP 62.0 and mask
AP 25.6 on the training images, from random init 58.4 and 28.5 (2026-11-23, one core each, 26 to 31 minutes beside other
work; docs/results.md). The recipe is that of vitb16_coco_1x.py; ours are the sizes, 2 images per step, a higher
learning rate, a shorter warm-up, the same steps of the schedule (2/3 and 11/12 of the run), and no flips, which only
make 80 images harder to memorize. From random init: model.backbone.init_cfg=None.
"""

_base_ = [
    './_base_/model.py',
    './_base_/coco.py',
    './_base_/schedule_1x.py',
    '../_base_/downstream_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['mmmaskclip.models', 'mmmaskclip.models.heads.float32_detection'])

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
        bbox_head=dict(in_channels=64, fc_out_channels=256),
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
    dataset=dict(
        data_root='{{$MMMASKCLIP_DATA:../shared/data}}/coco_tiny',
        pipeline=train_pipeline,
    ),
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

# With 4 images per step and 1e-3 the loss stood at 2.2 from step 50 on; at 3e-4 it was at 1.9 after 110, and falling.
optim_wrapper = dict(optimizer=dict(lr=3e-4))
train_cfg = dict(max_epochs=60, val_interval=20)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=60, milestones=[40, 55], gamma=0.1),
]

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=True, interval=20),
    visualization=dict(type='mmdet.DetVisualizationHook'),
)
visualizer = dict(
    type='mmdet.DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
)
# Every batch has another size; each new one would be benchmarked.
env_cfg = dict(cudnn_benchmark=False)
