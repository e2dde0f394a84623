# SimCLR's augmentations with the sizes of SLIP's code, for the views of SLIP and SimCLR.
_base_ = '../objectives/slip.py'

simclr_augmentation = [
    dict(type='torchvision/RandomResizedCrop', size=112, scale=(0.08, 1.0)),
    *_base_.simclr_colours,
    dict(
        type='torchvision/RandomApply',
        transforms=[dict(type='torchvision/GaussianBlur', kernel_size=11, sigma=(0.1, 2.0))],
        p=0.5,
    ),
    dict(type='torchvision/RandomHorizontalFlip'),
]
