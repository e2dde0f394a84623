# A CLIP for one small machine: ViT-Ti/16 at 112 px (7 x 7 patches) and a text tower of 6 layers. Sizes are ours.
model = dict(
    type='ImageTextPretrainer',
    data_preprocessor=dict(type='ImageTextPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    image_encoder=dict(type='CLIPVisionTransformer', arch='ViT-Ti/16', img_size=112),
    image_projection=dict(type='ImageProjectionHead', in_channels=192, embed_dims=256, pool='mean'),
    text_encoder=dict(type='CLIPTextTransformer', width=256, num_layers=6, num_heads=4, context_length=77),
    text_projection=dict(type='TextProjectionHead', in_channels=256, embed_dims=256),
    objectives=dict(contrast=dict(type='ImageTextContrast', loss=dict(type='InfoNCELoss', reduction='mean'))),
)
