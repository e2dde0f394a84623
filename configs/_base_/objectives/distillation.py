# MaskCLIP's objectives, and the parts whose sizes follow those of the tower.
decoder_vitb16 = dict(type='MaskedTokenDecoder', depth=1, width=768, num_patches=196, num_heads=12, shared_keys=True)
decoder_vitt16_112 = dict(type='MaskedTokenDecoder', depth=1, width=192, num_patches=49, num_heads=3)
decoder_vitxs16_64 = dict(type='MaskedTokenDecoder', depth=1, width=128, num_patches=16, num_heads=4)
codewords_vitb16 = dict(type='PrototypeHead', in_channels=768, bottleneck_channels=256)
# An eighth of iBOT's codewords, and a quarter of its MLP: 37 patches of 64 images pass it in each step.
codewords_vitt16 = dict(
    head=dict(type='PrototypeHead', in_channels=192, num_prototypes=1024, hidden_channels=512, bottleneck_channels=128),
    loss=dict(type='CodewordLoss', num_prototypes=1024),
)
# Small, as the tower and the world it sees.
codewords_vitxs16 = dict(
    head=dict(type='PrototypeHead', in_channels=128, num_prototypes=256, hidden_channels=256, bottleneck_channels=64),
    loss=dict(type='CodewordLoss', num_prototypes=256),
)
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
# CVPR 2023. Form and sizes of the quantizer are stated nowhere; the head and the loss are iBOT's.
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
