"""maskclip_fast, ours: MaskCLIP without a teacher tower, ViT-B/16, LAION-20M, 25 epochs.

tools/dist_train.sh configs/maskclip_fast/vitb16_laion20m.py 32

The target is the student's own pass over the full image, which the contrastive loss has already paid for; only the head
follows by EMA, and the loss looks at all patches, the visible ones too (TIPSv2's findings, arXiv 2604.12012).
Here: not run at full scale.
"""

_base_ = ['../clip/vitb16_laion20m.py', '../_base_/objectives/distillation.py']

model = dict(
    objectives=dict(
        contrast=dict(loss=dict(reduction='sum')),
        distillation=dict(
            **_base_.distillation_fast,
            decoder=_base_.decoder_vitb16,
            # Half of the CVPR form's, because it passes all patches and not three quarters of them.
            head=dict(**_base_.codewords_vitb16, num_prototypes=4096, hidden_channels=1024),
            loss=dict(type='CodewordLoss', num_prototypes=4096, tf32=True),
        ),
    ),
    # Of the head alone.
    teacher_momentum=dict(begin=0.999, end=0.9999),
)
