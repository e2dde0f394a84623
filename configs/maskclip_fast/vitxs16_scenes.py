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
        distillation=dict(**_base_.distillation_fast, **_base_.codewords_vitxs16, decoder=_base_.decoder_vitxs16_64),
    ),
    # Of the head alone.
    teacher_momentum=0.99,
)
