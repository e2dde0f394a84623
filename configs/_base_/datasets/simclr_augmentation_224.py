# SimCLR's augmentations (Chen et al. 2020), with the sizes of SLIP's code, for the views of SLIP and SimCLR.
simclr_augmentation = [
    dict(type='torchvision/RandomResizedCrop', size=224, scale=(0.08, 1.0)),
    dict(
        type='torchvision/RandomApply',
        transforms=[dict(type='torchvision/ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        p=0.8,
    ),
    dict(type='torchvision/RandomGrayscale', p=0.2),
    dict(
        type='torchvision/RandomApply',
        transforms=[dict(type='torchvision/GaussianBlur', kernel_size=23, sigma=(0.1, 2.0))],
        p=0.5,
    ),
    dict(type='torchvision/RandomHorizontalFlip'),
]
