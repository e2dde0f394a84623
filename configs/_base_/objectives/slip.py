# SimCLR (Chen et al. 2020) as SLIP (Mu et al. 2022) uses it beside contrast, and alone with mmpretrain's classes. Sizes
# stand in the configs.
slip_mlp = dict(
    type='mmpretrain.NonLinearNeck',
    num_layers=3,
    with_bias=True,
    with_last_bias=True,
    with_last_bn=False,
    with_avg_pool=False,
)
image_contrast = dict(
    type='ImageContrast',
    loss=dict(type='NTXentLoss', temperature=0.1),
    views=('augmented_1', 'augmented_2'),
    weight=1.0,
)
simclr = dict(
    type='mmpretrain.SimCLR',
    data_preprocessor=dict(
        type='mmmaskclip.ImageViewsPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        views=('augmented_1', 'augmented_2'),
    ),
    head=dict(type='mmpretrain.ContrastiveHead', loss=dict(type='mmpretrain.CrossEntropyLoss'), temperature=0.1),
)
simclr_colours = [
    dict(
        type='torchvision/RandomApply',
        transforms=[dict(type='torchvision/ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        p=0.8,
    ),
    dict(type='torchvision/RandomGrayscale', p=0.2),
]
