"""SILC (Naeem et al. 2023, arXiv 2310.13355): CLIP + local-to-global self-distillation, on generated scenes of
coloured shapes.

python tools/train.py configs/silc/vitxs16_scenes.py

Measured on 2026-11-22, two cores, seeds 0 and 1, held-out scenes: classification top-1 33.7 %, image to text R@1 12.8
%, text to image R@1 9.1 %, segmentation mIoU 10.0 %. More in docs/results.md.
Global crops are smaller than the other methods' (0.4 to 1 of the image, against 0.8 to 1), as SILC's are: captions then
mention objects that are cut off.
"""

_base_ = ['../clip/vitxs16_scenes.py', '../_base_/objectives/silc.py']

global_crop = [dict(type='torchvision/RandomResizedCrop', size=64, scale=(0.4, 1.0), ratio=(1.0, 1.0))]
local_crop = dict(type='torchvision/RandomResizedCrop', size=32, scale=(0.1, 0.4), ratio=(1.0, 1.0))
local_crops = [dict(type='RepeatCrops', count=4, transforms=[local_crop])]

model = dict(
    objectives=dict(
        # Every global crop that is distilled is contrasted with the caption too, or the two goals diverge.
        contrast=dict(views=('image', 'image_2')),
        distillation=dict(
            **_base_.local_to_global,
            head=dict(
                type='PrototypeHead', in_channels=128, num_prototypes=256, hidden_channels=256, bottleneck_channels=64
            ),
            loss=dict(type='CodewordLoss', num_prototypes=256, teacher_temperature=0.04),
        ),
    ),
    # Fixed: a teacher that stops moving stops hearing from the captions.
    teacher_momentum=0.966,
)
train_dataloader = dict(dataset=dict(views=dict(image=global_crop, image_2=global_crop, local=local_crops)))
