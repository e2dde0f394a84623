"""A linear head without prompts on OpenCLIP's ViT-B/32, for classes of your own: frozen tower, class token.

python tools/train.py configs/linear_probe/vitb32_openclip_cls.py \
    --cfg-options model.backbone.init_cfg.checkpoint=WEIGHTS model.head.num_classes=10 data_preprocessor.num_classes=10

WEIGHTS is a file of OpenCLIP or Hugging Face with GELU, as it was downloaded. The images of each class are in a folder
of their own, train/CLASS/*.jpg and val/CLASS/*.jpg below $MMMASKCLIP_CLASSES (default data/my_classes). The recipe of
vitb16_in1k.py, but 20 epochs of batches of 256 (ours): LARS steps by a share of the weights' norm, so lr stays. Not
run.
"""

_base_ = ['./_base_/recipe.py', '../_base_/datasets/imagenet_classification.py', '../_base_/classification_runtime.py']

classes = '{{$MMMASKCLIP_CLASSES:data/my_classes}}'
# OpenAI's, which OpenCLIP keeps.
data_preprocessor = dict(
    num_classes=10, mean=[122.7709383, 116.7460125, 104.09373615], std=[68.5005327, 66.6321579, 70.32316305]
)
model = dict(
    backbone=dict(
        arch='ViT-B/32',
        img_size=224,
        pre_norm=True,
        norm_cfg=dict(type='LN', eps=1e-5),
        out_type='cls_token',
        init_cfg=dict(checkpoint='open_clip_model.safetensors'),
    ),
    neck=dict(type='mmpretrain.ClsBatchNormNeck', input_features=768),
    head=dict(num_classes=10, in_channels=768),
)
train_dataloader = dict(
    batch_size=256,
    num_workers=4,
    dataset=dict(
        _delete_=True,
        type='mmpretrain.CustomDataset',
        data_root=f'{classes}/train',
        pipeline=_base_.train_dataloader.dataset.pipeline,
    ),
)
val_dataloader = dict(
    num_workers=4,
    dataset=dict(
        _delete_=True,
        type='mmpretrain.CustomDataset',
        data_root=f'{classes}/val',
        pipeline=_base_.val_dataloader.dataset.pipeline,
    ),
)
test_dataloader = val_dataloader
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=5)
param_scheduler = [dict(**_base_.warm_up, end=2), dict(**_base_.cosine, begin=2)]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(by_epoch=True, interval=5))
