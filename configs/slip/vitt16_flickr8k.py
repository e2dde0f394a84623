"""SLIP (Mu et al. 2022), CLIP + SimCLR, ViT-Ti/16 at 112 px, on Flickr8k.

python tools/train.py configs/slip/vitt16_flickr8k.py

Not run.
"""

_base_ = ['../clip/vitt16_flickr8k.py', '../_base_/datasets/simclr_augmentation_112.py']

model = dict(
    objectives=dict(
        image_contrast=dict(
            **_base_.image_contrast,
            head=dict(
                **_base_.slip_mlp, in_channels=192, hid_channels=1024, out_channels=128, norm_cfg=dict(type='BN1d')
            ),
        ),
    ),
)
train_dataloader = dict(
    dataset=dict(views=dict(augmented_1=_base_.simclr_augmentation, augmented_2=_base_.simclr_augmentation))
)
