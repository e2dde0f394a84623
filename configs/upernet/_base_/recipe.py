# UperNet on a ViT-B/16, section B of the supplement (CVPR 2023), in mmseg. What it leaves unsaid is from the UperNet
# config of the same first author's BootMAE, and marked so.
_base_ = '../../_base_/downstream_runtime.py'
default_scope = 'mmseg'
custom_imports = dict(
    imports=['mmmaskclip.models.heads.float32_segmentation', 'mmmaskclip.evaluation.checked_iou_metric']
)

norm_cfg = dict(type='SyncBN', requires_grad=True)
# BootMAE.
head = dict(dropout_ratio=0.1, norm_cfg=norm_cfg, align_corners=False, num_classes=150)
model = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor',
        # What the tower was pretrained with; BootMAE's tower had 127.5.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(512, 512),
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='mmmaskclip.CLIPVisionTransformer',
        arch='ViT-B/16',
        # Positions are resized once, when the weights are loaded, and then learned at this size.
        img_size=512,
        drop_path_rate=0.1,
        out_type='featmap',
        # The 4th, 6th, 8th and 12th block.
        out_indices=[3, 5, 7, 11],
        final_norm=False,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/maskclip/vitb16_laion20m/iter_122050.pth',
            prefix='image_encoder.',
        ),
    ),
    neck=dict(type='mmseg.Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(
        type='mmmaskclip.Float32UPerHead',
        in_channels=[768, 768, 768, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=768,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        **head,
    ),
    auxiliary_head=dict(
        type='mmmaskclip.Float32FCNHead',
        in_channels=768,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
        **head,
    ),
    train_cfg=dict(),
    # BootMAE's stride.
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)

optim_wrapper = dict(
    type='mmmaskclip.PretrainOptimWrapper',
    constructor='mmmaskclip.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.6, norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
    # BootMAE.
    clip_grad=dict(max_norm=3.0),
)
param_scheduler = [
    # BootMAE's start, 1e-6 of the learning rate.
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

train_dataloader = dict(
    # 8 processes x 2 images.
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmmaskclip.CheckedIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=16000, save_best='mIoU'))
log_processor = dict(by_epoch=False)
visualizer = dict(
    type='mmseg.SegLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
