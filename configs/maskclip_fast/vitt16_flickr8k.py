"""maskclip_fast, ours: MaskCLIP without a teacher tower, ViT-Ti/16 at 112 px, on Flickr8k.

python tools/train.py configs/maskclip_fast/vitt16_flickr8k.py

The target is the student's own pass over the full image, which the contrastive loss has already paid for; only the head
follows by EMA, and the loss looks at all patches, the visible ones too (TIPSv2's findings, arXiv 2604.12012).
Not run.
"""

_base_ = ['../clip/vitt16_flickr8k.py', '../_base_/objectives/distillation.py']

model = dict(
    objectives=dict(
        contrast=dict(loss=dict(reduction='sum')),
        distillation=dict(**_base_.distillation_fast, **_base_.codewords_vitt16, decoder=_base_.decoder_vitt16_112),
    ),
    # Of the head alone.
    teacher_momentum=0.99,
)
