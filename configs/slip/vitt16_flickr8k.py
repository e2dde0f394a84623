"""SLIP (Mu et al. 2022), CLIP + SimCLR, ViT-Ti/16 at 112 px, on Flickr8k.

python tools/train.py configs/slip/vitt16_flickr8k.py

Not run.
"""

_base_ = '../clip/vitt16_flickr8k.py'

# SimCLR's augmentations, as in SLIP's code.
augmentation = [
    dict(type='torchvision/RandomResizedCrop', size=112, scale=(0.08, 1.0)),
    dict(
        type='torchvision/RandomApply',
        transforms=[dict(type='torchvision/ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        p=0.8,
    ),
    dict(type='torchvision/RandomGrayscale', p=0.2),
    dict(
        type='torchvision/RandomApply',
        transforms=[dict(type='torchvision/GaussianBlur', kernel_size=11, sigma=(0.1, 2.0))],
        p=0.5,
    ),
    dict(type='torchvision/RandomHorizontalFlip'),
]

model = dict(
    objectives=dict(
        image_contrast=dict(
            type='ImageContrast',
            head=dict(
                type='mmpretrain.NonLinearNeck',
                in_channels=192,
                hid_channels=1024,
                out_channels=128,
                num_layers=3,
                with_bias=True,
                with_last_bias=True,
                with_last_bn=False,
                with_avg_pool=False,
                norm_cfg=dict(type='BN1d'),
            ),
            loss=dict(type='NTXentLoss', temperature=0.1),
            views=('augmented_1', 'augmented_2'),
            weight=1.0,
        ),
    ),
)
train_dataloader = dict(dataset=dict(views=dict(augmented_1=augmentation, augmented_2=augmentation)))
