# MaskCLIP's objectives. Sizes follow the tower's and stand in the configs.
masked_decoder = dict(type='MaskedTokenDecoder', depth=1)
# arXiv v1. Smooth-L1 as in Equation 6; target_norm='ln' is the first author's later habit.
distillation_v1 = dict(
    type='MaskedSelfDistillation',
    mask=dict(type='RandomMask', ratio=0.75),
    target='ema',
    loss=dict(type='FeatureRegressionLoss', beta=2.0, target_norm='none'),
    loss_on='masked',
    # Lambda of Equation 7; the paper does not state its value.
    weight=1.0,
)
# CVPR 2023. Form and sizes of the quantizer are stated nowhere; the head and the loss in the configs are iBOT's.
distillation_cvpr = dict(
    type='MaskedSelfDistillation',
    mask=dict(type='RandomMask', ratio=0.75),
    target='ema',
    loss_on='masked',
    weight=0.05,
)
mlm_cvpr = dict(type='MaskedLanguageModeling', mask_ratio=0.2, weight=0.05)
# maskclip_fast, ours. The target is the student's own pass over the full image, which the contrastive loss has already
# paid for. Only the head follows by EMA. The loss looks at all patches, the visible ones too (TIPSv2, 2604.12012).
distillation_fast = dict(
    type='MaskedSelfDistillation',
    mask=dict(type='RandomMask', ratio=0.75),
    target='shared',
    loss_on='all',
    weight=0.05,
)
