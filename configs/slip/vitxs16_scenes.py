"""SLIP (Mu et al. 2022), CLIP + SimCLR, on generated scenes of coloured shapes.

python tools/train.py configs/slip/vitxs16_scenes.py

Measured on 2026-11-22, two cores, seeds 0 and 1, held-out scenes: classification top-1 29.2 %, image to text R@1 15.8
%, text to image R@1 8.6 %, segmentation mIoU 8.0 %. More in docs/results.md.
"""

_base_ = ['../clip/vitxs16_scenes.py', '../_base_/objectives/slip.py']

# SimCLR's without what would contradict the captions (mirroring) or hide most of a small scene (tiny crops, blur).
augmentation = [dict(type='torchvision/RandomResizedCrop', size=64, scale=(0.3, 1.0)), *_base_.simclr_colours]

model = dict(
    objectives=dict(
        image_contrast=dict(
            **_base_.image_contrast,
            head=dict(
                **_base_.slip_mlp, in_channels=128, hid_channels=512, out_channels=128, norm_cfg=dict(type='BN1d')
            ),
        ),
    ),
)
train_dataloader = dict(dataset=dict(views=dict(augmented_1=augmentation, augmented_2=augmentation)))
