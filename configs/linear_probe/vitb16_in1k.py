"""Linear probe on ImageNet-1K, ViT-B/16: frozen tower, mean of the patch tokens, batch norm without affine, linear.

tools/dist_train.sh configs/linear_probe/vitb16_in1k.py 8 \
    --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
python tools/test.py configs/linear_probe/vitb16_in1k.py work_dirs/linear_probe/vitb16_in1k/epoch_90.pth

CHECKPOINT is of pretraining; model.backbone.init_cfg=None starts from random weights. MaskCLIP's supplement, section B:
LARS, lr 6.4, momentum 0.9, weight decay 0, batch 16384 (8 x 2048), 90 epochs, cosine to 0. The warm-up of 10 epochs,
the crops, the head's start and LARS' trust ratio without the bias are MAE's, which the paper follows; the mean of the
patch tokens is of BootMAE's code (--global_pool), whose lr and batch are these.
Published (MaskCLIP v1, LAION-20M, 25 epochs): top-1 72.5, CLIP 68.2. Here: not run at full scale.
"""

_base_ = ['../_base_/datasets/imagenet_classification.py', '../_base_/downstream_runtime.py']

default_scope = 'mmpretrain'

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmmaskclip.CLIPVisionTransformer',
        arch='ViT-B/16',
        img_size=224,
        frozen_stages=12,
        # mmpretrain's avg_featmap has a norm after the mean, which pretraining has not.
        out_type='featmap',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/maskclip/vitb16_laion20m/iter_122050.pth',
            prefix='image_encoder.',
        ),
    ),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(type='mmpretrain.ClsBatchNormNeck', input_features=768),
    ],
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01),
    ),
)

train_dataloader = dict(batch_size=2048)

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    optimizer=dict(type='mmpretrain.LARS', lr=6.4, momentum=0.9, weight_decay=0.0),
    # Leaves the frozen tower out of the optimizer.
    constructor='mmmaskclip.PretrainOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys={'head.fc.bias': dict(lars_exclude=True)}),
)
param_scheduler = [
    dict(type='mmengine.LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='mmengine.CosineAnnealingLR',
        T_max=80,
        eta_min=0.0,
        by_epoch=True,
        begin=10,
        end=90,
        convert_to_iter_based=True,
    ),
]
# 8 processes x 2048 images.
auto_scale_lr = dict(base_batch_size=16384, enable=False)

train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=10)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=True, interval=1),
    visualization=dict(type='mmpretrain.VisualizationHook', enable=False),
)
# Batch norm sees its own process's images, as MAE's does; for evaluation all take the mean of their statistics.
custom_hooks = [dict(type='mmengine.SyncBuffersHook')]
visualizer = dict(
    type='mmpretrain.UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
