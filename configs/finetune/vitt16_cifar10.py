"""Fine-tuning on CIFAR-10 as JPEG files (5,000 + 5,000 images), ViT-Ti/16 at 112 px, on one small machine.

python tools/train.py configs/finetune/vitt16_cifar10.py \
    --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
python tools/test.py configs/finetune/vitt16_cifar10.py work_dirs/finetune/vitt16_cifar10/epoch_10.pth

Data as for configs/linear_probe/vitt16_cifar10.py. lr, warm-up share, cosine and layer decay are those of
vitb16_in1k.py; ours: 10 epochs of 39 steps of 128 images, crops and flips only, no mixup. Not run.
"""

_base_ = ['../_base_/datasets/cifar10_folder.py', '../_base_/downstream_runtime.py']

default_scope = 'mmpretrain'

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmmaskclip.CLIPVisionTransformer',
        arch='ViT-Ti/16',
        img_size=112,
        # mmpretrain's avg_featmap has a norm after the mean, which pretraining has not.
        out_type='featmap',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/maskclip/vitt16_flickr8k_v1/epoch_10.pth',
            prefix='image_encoder.',
        ),
    ),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=10,
        in_channels=192,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5),
    ),
)

train_dataloader = dict(batch_size=128)

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmmaskclip.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7, norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
# BEiT's layer decay scales the whole schedule of a layer, its start and its end with it: hence ratios.
param_scheduler = [
    dict(type='mmengine.LinearLR', start_factor=1 / 600, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(
        type='mmengine.CosineAnnealingLR',
        T_max=8,
        eta_min_ratio=1 / 600,
        by_epoch=True,
        begin=2,
        end=10,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=5)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=True, interval=5),
    visualization=dict(type='mmpretrain.VisualizationHook', enable=False),
)
visualizer = dict(
    type='mmpretrain.UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
