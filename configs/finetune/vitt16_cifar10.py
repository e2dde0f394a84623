"""Fine-tuning on CIFAR-10 as JPEG files (5,000 + 5,000 images), ViT-Ti/16 at 112 px, on one small machine.

python tools/train.py configs/finetune/vitt16_cifar10.py \
    --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
python tools/test.py configs/finetune/vitt16_cifar10.py work_dirs/finetune/vitt16_cifar10/epoch_10.pth

Data as for configs/linear_probe/vitt16_cifar10.py. lr, warm-up share, cosine and layer decay are those of
vitb16_in1k.py; ours: 10 epochs of 39 steps of 128 images, crops and flips only, no mixup. Not run.
"""

_base_ = ['./_base_/recipe.py', '../_base_/datasets/cifar10_folder.py', '../_base_/classification_runtime.py']

model = dict(
    backbone=dict(
        arch='ViT-Ti/16',
        img_size=112,
        init_cfg=dict(checkpoint='work_dirs/maskclip/vitt16_flickr8k_v1/epoch_10.pth'),
    ),
    head=dict(num_classes=10, in_channels=192),
)
train_dataloader = dict(batch_size=128)
train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=5)
param_scheduler = [dict(**_base_.warm_up, end=2), dict(**_base_.cosine, begin=2)]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(by_epoch=True, interval=5))
