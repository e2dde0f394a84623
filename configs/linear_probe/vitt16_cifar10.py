"""Linear probe on CIFAR-10 as JPEG files (5,000 + 5,000 images), ViT-Ti/16 at 112 px, on one small machine.

tar xf train.tar --one-top-level=data/zero_shot/cifar10_folder
tar xf test.tar --one-top-level=data/zero_shot/cifar10_folder
python tools/train.py configs/linear_probe/vitt16_cifar10.py \
    --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
python tools/test.py configs/linear_probe/vitt16_cifar10.py work_dirs/linear_probe/vitt16_cifar10/epoch_20.pth

The recipe of vitb16_in1k.py, but 20 epochs of 19 steps of 256 images (ours), every one of which encodes all images
anew, with crops and flips. LARS steps by a share of the weights' norm, so lr stays. All 90 epochs in seconds, on cached
features: configs/probes/cifar10_linear.py. Not run.
"""

_base_ = ['./_base_/recipe.py', '../_base_/datasets/cifar10_folder.py', '../_base_/classification_runtime.py']

model = dict(
    backbone=dict(
        arch='ViT-Ti/16', img_size=112, init_cfg=dict(checkpoint='work_dirs/maskclip/vitt16_flickr8k_v1/epoch_10.pth')
    ),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(type='mmpretrain.ClsBatchNormNeck', input_features=192),
    ],
    head=dict(num_classes=10, in_channels=192),
)
train_dataloader = dict(batch_size=256)
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=5)
param_scheduler = [dict(**_base_.warm_up, end=2), dict(**_base_.cosine, begin=2)]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(by_epoch=True, interval=5))
