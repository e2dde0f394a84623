"""SLIP (Mu et al. 2022), CLIP + SimCLR, on generated scenes of coloured shapes.

python tools/train.py configs/slip/vitxs16_scenes.py

Measured on 2026-11-22, two cores, seeds 0 and 1, held-out scenes: classification top-1 29.2 %, image to text R@1 15.8
%, text to image R@1 8.6 %, segmentation mIoU 8.0 %. More in docs/results.md.
"""

_base_ = '../clip/vitxs16_scenes.py'

# SimCLR's without what would contradict the captions (mirroring) or hide most of a small scene (tiny crops, blur).
augmentation = [
    dict(type='torchvision/RandomResizedCrop', size=64, scale=(0.3, 1.0)),
    dict(
        type='torchvision/RandomApply',
        transforms=[dict(type='torchvision/ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        p=0.8,
    ),
    dict(type='torchvision/RandomGrayscale', p=0.2),
]

model = dict(
    objectives=dict(
        image_contrast=dict(
            type='ImageContrast',
            head=dict(
                type='mmpretrain.NonLinearNeck',
                in_channels=128,
                hid_channels=512,
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
