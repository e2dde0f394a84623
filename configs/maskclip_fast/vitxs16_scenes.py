"""maskclip_fast, ours: MaskCLIP without a teacher tower, on generated scenes of coloured shapes.

python tools/train.py configs/maskclip_fast/vitxs16_scenes.py

The target is the student's own pass over the full image, which the contrastive loss has already paid for; only the head
follows by EMA, and the loss looks at all patches, the visible ones too (TIPSv2's findings, arXiv 2604.12012).
Measured on 2026-11-22, two cores, seeds 0 and 1, held-out scenes: classification top-1 40.2 %, image to text R@1 19.0
%, text to image R@1 10.8 %, segmentation mIoU 11.4 %. More in docs/results.md.
"""

_base_ = ['../clip/vitxs16_scenes.py', '../_base_/objectives/distillation.py']

model = dict(
    objectives=dict(
        contrast=dict(loss=dict(reduction='sum')),
        distillation=dict(
            **_base_.distillation_fast,
            decoder=dict(**_base_.masked_decoder, width=128, num_patches=16, num_heads=4),
            head=dict(
                type='PrototypeHead', in_channels=128, num_prototypes=256, hidden_channels=256, bottleneck_channels=64
            ),
            loss=dict(type='CodewordLoss', num_prototypes=256),
        ),
    ),
    # Of the head alone.
    teacher_momentum=0.99,
)
