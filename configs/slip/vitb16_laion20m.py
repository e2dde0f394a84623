"""SLIP (Mu et al. 2022), CLIP + SimCLR, ViT-B/16, LAION-20M, 25 epochs.

tools/dist_train.sh configs/slip/vitb16_laion20m.py 32

Published (arXiv 2208.12262v1, Table 1): ImageNet zero-shot 43.1, linear 70.4, fine-tuned 83.2; Flickr30K I2T/T2I R@1
61.1/45.5; 2.67x the time of CLIP, 30 GB per GPU at 128 images. Here: not run at full scale. Text is contrasted with
gradients through the gather, the exact form; SLIP's code does without: `gather_with_grad=False`.
"""

_base_ = ['../clip/vitb16_laion20m.py', '../_base_/datasets/simclr_augmentation_224.py']

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
