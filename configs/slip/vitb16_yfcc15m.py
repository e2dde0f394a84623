"""SLIP (Mu et al. 2022), CLIP + SimCLR, ViT-B/16, YFCC15M, 25 epochs.

tools/dist_train.sh configs/slip/vitb16_yfcc15m.py 32

Published (SLIP; A-CLIP for retrieval): ImageNet zero-shot 42.8, linear 72.1, fine-tuned 82.6; Flickr30K I2T/T2I R@1
57.2/41.2. Here: not run at full scale. SLIP trains with lr 3e-3, weight decay 0.1. Text is contrasted with gradients
through the gather, the exact form; SLIP's code does without: `gather_with_grad=False`.
"""

_base_ = ['../clip/vitb16_yfcc15m.py', '../_base_/datasets/simclr_augmentation_224.py']

model = dict(
    objectives=dict(
        image_contrast=dict(
            **_base_.image_contrast,
            head=dict(
                **_base_.slip_mlp, in_channels=768, hid_channels=4096, out_channels=256, norm_cfg=dict(type='SyncBN')
            ),
        ),
    ),
)
train_dataloader = dict(
    dataset=dict(views=dict(augmented_1=_base_.simclr_augmentation, augmented_2=_base_.simclr_augmentation))
)

optim_wrapper = dict(optimizer=dict(lr=3e-3, weight_decay=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / 3e-3, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=1, convert_to_iter_based=True),
]
