"""Fine-tuning on ImageNet-1K, ViT-B/16: mean of the patches, 100 epochs, layer decay 0.7.

tools/dist_train.sh configs/finetune/vitb16_in1k.py 8 --amp \
    --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
python tools/test.py configs/finetune/vitb16_in1k.py work_dirs/finetune/vitb16_in1k/epoch_100.pth

CHECKPOINT is of pretraining; model.backbone.init_cfg=None starts from random weights. MaskCLIP's supplement, section B:
100 epochs, 20 of them warm-up to 6e-4, cosine to 1e-6, layer decay 0.7, average pooling of the last block, one 224 px
crop. Ours, because no source states them: batch 2048 (8 x 256) and weight decay 0.05, those of the first author's later
fine-tuning of CLIP at the same lr (FT-CLIP); drop path 0.1, mixup 0.8, cutmix 1.0, label smoothing 0.1, RandAugment
9-0.5 and random erasing 0.25 of his BootMAE and of MAE, where FT-CLIP has no drop path, mixup and cutmix. The tower's
final norm stands before the mean, as in pretraining.
Published (MaskCLIP v1, LAION-20M, 25 epochs): top-1 83.8, CLIP 82.6. Here: not run at full scale.
"""

_base_ = ['./_base_/recipe.py', '../_base_/datasets/imagenet_classification.py', '../_base_/classification_runtime.py']

model = dict(
    backbone=dict(
        arch='ViT-B/16',
        img_size=224,
        drop_path_rate=0.1,
        init_cfg=dict(checkpoint='work_dirs/maskclip/vitb16_laion20m/iter_122050.pth'),
    ),
    head=dict(num_classes=1000, in_channels=768),
    train_cfg=dict(augments=[dict(type='mmpretrain.Mixup', alpha=0.8), dict(type='mmpretrain.CutMix', alpha=1.0)]),
)

train_dataloader = dict(
    batch_size=256,
    dataset=dict(
        pipeline=[
            dict(type='mmpretrain.LoadImageFromFile'),
            dict(type='mmpretrain.RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(
                type='mmpretrain.RandAugment',
                policies='timm_increasing',
                num_policies=2,
                total_level=10,
                magnitude_level=9,
                magnitude_std=0.5,
                # Images are BGR until the preprocessor turns them.
                hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
            ),
            dict(
                type='mmpretrain.RandomErasing',
                erase_prob=0.25,
                mode='rand',
                min_area_ratio=0.02,
                max_area_ratio=1 / 3,
                fill_color=[103.53, 116.28, 123.675],
                fill_std=[57.375, 57.12, 58.395],
            ),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)

train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
param_scheduler = [dict(**_base_.warm_up, end=20), dict(**_base_.cosine, begin=20)]
# 8 processes x 256 images.
auto_scale_lr = dict(base_batch_size=2048, enable=False)
default_hooks = dict(logger=dict(interval=100), checkpoint=dict(by_epoch=True, interval=1))
