"""SimCLR (Chen et al. 2020) alone, with mmpretrain's classes, ViT-B/16, on the images of LAION-20M, 25 epochs.

tools/dist_train.sh configs/simclr/vitb16_laion20m.py 32

Published (arXiv 2208.12262v1, Table 4): linear 58.2, fine-tuned 82.2; UperNet ADE20K 45.7. Here: not run at full scale.
The optimizer and its schedule are CLIP's on the same data.
"""

_base_ = ['../clip/vitb16_laion20m.py', '../_base_/datasets/simclr_augmentation_224.py']

model = dict(
    _delete_=True,
    **_base_.simclr,
    backbone=dict(type='mmmaskclip.CLIPVisionTransformer', arch='ViT-B/16', img_size=224, out_type='avg_featmap'),
    # SLIP's MLP.
    neck=dict(**_base_.slip_mlp, in_channels=768, hid_channels=4096, out_channels=256, norm_cfg=dict(type='SyncBN')),
)
train_dataloader = dict(
    dataset=dict(
        views=dict(_delete_=True, augmented_1=_base_.simclr_augmentation, augmented_2=_base_.simclr_augmentation)
    )
)
# It has no text tower, hence neither schedules of ours nor zero-shot evaluation.
custom_hooks = [dict(type='NonFiniteHook'), dict(type='BadSamplesHook')]
val_cfg = val_dataloader = val_evaluator = test_cfg = test_dataloader = test_evaluator = None
train_cfg = dict(val_interval_iters=None)
