"""SimCLR (Chen et al. 2020) alone, with mmpretrain's classes, ViT-Ti/16 at 112 px, on the images of Flickr8k.

python tools/train.py configs/simclr/vitt16_flickr8k.py

Not run.
The optimizer and its schedule are CLIP's on the same data.
"""

_base_ = ['../clip/vitt16_flickr8k.py', '../_base_/datasets/simclr_augmentation_112.py']

model = dict(
    _delete_=True,
    **_base_.simclr,
    backbone=dict(type='mmmaskclip.CLIPVisionTransformer', arch='ViT-Ti/16', img_size=112, out_type='avg_featmap'),
    # SLIP's MLP.
    neck=dict(**_base_.slip_mlp, in_channels=192, hid_channels=1024, out_channels=128, norm_cfg=dict(type='BN1d')),
)
train_dataloader = dict(
    dataset=dict(
        views=dict(_delete_=True, augmented_1=_base_.simclr_augmentation, augmented_2=_base_.simclr_augmentation)
    )
)
# It has no text tower, hence neither schedules of ours nor zero-shot evaluation.
custom_hooks = [dict(type='NonFiniteHook'), dict(type='BadSamplesHook')]
val_cfg = val_dataloader = val_evaluator = test_cfg = test_dataloader = test_evaluator = None
