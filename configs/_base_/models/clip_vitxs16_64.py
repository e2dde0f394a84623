# A CLIP that trains in minutes on two cores: ViT of width 128 and 4 layers at 64 px (4 x 4 patches) and a text tower of
# 2 layers. Sizes are ours.
model = dict(
    type='ImageTextPretrainer',
    data_preprocessor=dict(type='ImageTextPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    image_encoder=dict(
        type='CLIPVisionTransformer',
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=64,
        patch_size=16,
    ),
    image_projection=dict(type='ImageProjectionHead', in_channels=128, embed_dims=128, pool='mean'),
    text_encoder=dict(type='CLIPTextTransformer', width=128, num_layers=2, num_heads=4, context_length=77),
    text_projection=dict(type='TextProjectionHead', in_channels=128, embed_dims=128),
    objectives=dict(contrast=dict(type='ImageTextContrast', loss=dict(type='InfoNCELoss', reduction='mean'))),
)
