"""Linear probe on CIFAR-10 as JPEG files (5,000 + 5,000 images), ViT-Ti/16 at 112 px, on one small machine.

tar xf train.tar -C data/zero_shot/cifar10_folder; tar xf test.tar -C data/zero_shot/cifar10_folder
python tools/train.py configs/linear_probe/vitt16_cifar10.py \
    --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
python tools/test.py configs/linear_probe/vitt16_cifar10.py work_dirs/linear_probe/vitt16_cifar10/epoch_20.pth

The recipe of vitb16_in1k.py, but 20 epochs of 19 steps of 256 images (ours), every one of which encodes all images
anew, with crops and flips. LARS steps by a share of the weights' norm, so lr stays. All 90 epochs in seconds, on cached
features: configs/probes/cifar10_linear.py. Not run.
"""

_base_ = ['../_base_/datasets/cifar10_folder.py', '../_base_/downstream_runtime.py']

default_scope = 'mmpretrain'

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmmaskclip.CLIPVisionTransformer',
        arch='ViT-Ti/16',
        img_size=112,
        frozen_stages=12,
        # mmpretrain's avg_featmap has a norm after the mean, which pretraining has not.
        out_type='featmap',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/maskclip/vitt16_flickr8k_v1/epoch_10.pth',
            prefix='image_encoder.',
        ),
    ),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(type='mmpretrain.ClsBatchNormNeck', input_features=192),
    ],
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=10,
        in_channels=192,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01),
    ),
)

train_dataloader = dict(batch_size=256)

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    optimizer=dict(type='mmpretrain.LARS', lr=6.4, momentum=0.9, weight_decay=0.0),
    # Leaves the frozen tower out of the optimizer.
    constructor='mmmaskclip.PretrainOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys={'head.fc.bias': dict(lars_exclude=True)}),
)
param_scheduler = [
    dict(type='mmengine.LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(
        type='mmengine.CosineAnnealingLR',
        T_max=18,
        eta_min=0.0,
        by_epoch=True,
        begin=2,
        end=20,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=5)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=True, interval=5),
    visualization=dict(type='mmpretrain.VisualizationHook', enable=False),
)
# Batch norm sees its own process's images, as MAE's does; for evaluation all take the mean of their statistics.
custom_hooks = [dict(type='mmengine.SyncBuffersHook')]
visualizer = dict(
    type='mmpretrain.UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
