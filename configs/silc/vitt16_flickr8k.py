"""SILC (Naeem et al. 2023, arXiv 2310.13355): CLIP + local-to-global self-distillation, ViT-Ti/16 at 112 px, on
Flickr8k.

python tools/train.py configs/silc/vitt16_flickr8k.py

Not run. 4 local crops of 48 px in place of 8 of 96.
"""

_base_ = ['../clip/vitt16_flickr8k.py', '../_base_/objectives/silc.py']

global_crop = [dict(type='torchvision/RandomResizedCrop', size=112, scale=(0.4, 1.0))]
local_crop = dict(type='torchvision/RandomResizedCrop', size=48, scale=(0.05, 0.4))
local_crops = [dict(type='RepeatCrops', count=4, transforms=[local_crop])]

model = dict(
    objectives=dict(
        # Every global crop that is distilled is contrasted with the caption too, or the two goals diverge.
        contrast=dict(views=('image', 'image_2')),
        distillation=dict(
            **_base_.local_to_global,
            head=dict(
                type='PrototypeHead', in_channels=256, num_prototypes=1024, hidden_channels=512, bottleneck_channels=128
            ),
            loss=dict(type='CodewordLoss', num_prototypes=1024, teacher_temperature=0.04),
        ),
    ),
    # Fixed: a teacher that stops moving stops hearing from the captions.
    teacher_momentum=0.966,
)
train_dataloader = dict(dataset=dict(views=dict(image=global_crop, image_2=global_crop, local=local_crops)))
