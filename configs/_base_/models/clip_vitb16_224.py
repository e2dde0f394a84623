# CLIP with ViT-B/16 at 224 px and CLIP's text tower, pooled as MaskCLIP does (its section 4.1; SLIP's embed_dims).
model = dict(
    type='ImageTextPretrainer',
    # On a GPU with a compiler. False where a compilation, up to a minute at the start, is too long.
    compiled='auto',
    data_preprocessor=dict(
        type='ImageTextPreprocessor',
        # ImageNet's, as in SLIP.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    # OpenCLIP's habit under bf16, too; other precisions do not change. Loss curves of a ViT-Ti/16 agree, see
    # docs/performance.md.
    image_encoder=dict(type='CLIPVisionTransformer', arch='ViT-B/16', img_size=224, residual_dtype='bf16'),
    image_projection=dict(type='ImageProjectionHead', in_channels=768, embed_dims=512, pool='mean'),
    text_encoder=dict(
        type='CLIPTextTransformer', width=512, num_layers=12, num_heads=8, context_length=77, residual_dtype='bf16'
    ),
    text_projection=dict(type='TextProjectionHead', in_channels=512, embed_dims=512),
    objectives=dict(contrast=dict(type='ImageTextContrast', loss=dict(type='InfoNCELoss', reduction='mean'))),
)
