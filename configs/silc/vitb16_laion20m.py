"""SILC (Naeem et al. 2023, arXiv 2310.13355): CLIP + local-to-global self-distillation, ViT-B/16, LAION-20M, 25 epochs.

tools/dist_train.sh configs/silc/vitb16_laion20m.py 32

Published at another scale (WebLI, 256 px, as quoted by TIPSv2): zero-shot segmentation, ADE20K 19.3, Context-59 31.6.
Here: not run at full scale. Number of prototypes, temperatures and momentum are recalled, not confirmed by a source.
"""

_base_ = ['../clip/vitb16_laion20m.py', '../_base_/objectives/silc.py']

global_crop = [dict(type='torchvision/RandomResizedCrop', size=224, scale=(0.4, 1.0))]
local_crop = dict(type='torchvision/RandomResizedCrop', size=96, scale=(0.05, 0.4))
local_crops = [dict(type='RepeatCrops', count=8, transforms=[local_crop])]

model = dict(
    objectives=dict(
        # Every global crop that is distilled is contrasted with the caption too, or the two goals diverge.
        contrast=dict(views=('image', 'image_2')),
        distillation=dict(
            **_base_.local_to_global,
            head=dict(
                type='PrototypeHead',
                in_channels=512,
                num_prototypes=65536,
                hidden_channels=2048,
                bottleneck_channels=256,
            ),
            loss=dict(type='CodewordLoss', num_prototypes=65536, teacher_temperature=0.04),
        ),
    ),
    # Fixed: a teacher that stops moving stops hearing from the captions.
    teacher_momentum=0.966,
)
train_dataloader = dict(dataset=dict(views=dict(image=global_crop, image_2=global_crop, local=local_crops)))
