# MAE (He et al. 2022) with mmpretrain's classes, alone and as an objective beside contrast. Sizes stand in the configs.
mae_decoder = dict(
    type='mmpretrain.MAEPretrainDecoder',
    patch_size=16,
    # As in MAE; torch's default for linear layers is smaller.
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)
# MAE's own decoder, for ViT-B/16 at 224 px.
mae_decoder_vitb16 = dict(
    **mae_decoder,
    num_patches=196,
    embed_dim=768,
    decoder_embed_dim=512,
    decoder_depth=8,
    decoder_num_heads=16,
)
# Smaller than MAE's, in proportion to the tower: ViT-Ti/16 at 112 px.
mae_decoder_vitt16 = dict(
    **mae_decoder,
    num_patches=49,
    embed_dim=192,
    decoder_embed_dim=128,
    decoder_depth=2,
    decoder_num_heads=4,
)
pixel_reconstruction = dict(
    type='PixelReconstruction',
    mask=dict(type='RandomMask', ratio=0.75),
    patch_size=16,
    norm_pix=True,
    # MaskCLIP's paper does not state it; ours.
    weight=1.0,
)
mae = dict(
    type='mmpretrain.MAE',
    data_preprocessor=dict(
        type='mmmaskclip.ImageViewsPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        views=('image',),
    ),
    head=dict(
        type='mmpretrain.MAEPretrainHead',
        norm_pix=True,
        patch_size=16,
        loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2'),
    ),
)
mae_encoder = dict(type='mmpretrain.MAEViT', patch_size=16, mask_ratio=0.75)
