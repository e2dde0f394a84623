"""Linear probe on ImageNet-1K, ViT-B/16: frozen tower, mean of the patches, batch norm without affine, linear.

tools/dist_train.sh configs/linear_probe/vitb16_in1k.py 8 \
    --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
python tools/test.py configs/linear_probe/vitb16_in1k.py work_dirs/linear_probe/vitb16_in1k/epoch_90.pth

CHECKPOINT is of pretraining; model.backbone.init_cfg=None starts from random weights. MaskCLIP's supplement, section B:
LARS, lr 6.4, momentum 0.9, weight decay 0, batch 16384 (8 x 2048), 90 epochs, cosine to 0. The warm-up of 10 epochs,
the crops, the head's start and LARS' trust ratio without the bias are MAE's, which the paper follows; the mean of the
patches is of BootMAE's code (--global_pool), whose lr and batch are these.
Published (MaskCLIP v1, LAION-20M, 25 epochs): top-1 72.5, CLIP 68.2. Here: not run at full scale.
"""

_base_ = ['./_base_/recipe.py', '../_base_/datasets/imagenet_classification.py', '../_base_/classification_runtime.py']

model = dict(
    backbone=dict(
        arch='ViT-B/16', img_size=224, init_cfg=dict(checkpoint='work_dirs/maskclip/vitb16_laion20m/iter_122050.pth')
    ),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(type='mmpretrain.ClsBatchNormNeck', input_features=768),
    ],
    head=dict(num_classes=1000, in_channels=768),
)
train_dataloader = dict(batch_size=2048)
train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=10)
param_scheduler = [dict(**_base_.warm_up, end=10), dict(**_base_.cosine, begin=10)]
# 8 processes x 2048 images.
auto_scale_lr = dict(base_batch_size=16384, enable=False)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(by_epoch=True, interval=1))
