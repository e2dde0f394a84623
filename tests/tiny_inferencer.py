"""Config of the tiny CLIP of the inferencer's tests."""

from mmengine.config import Config

CONFIG = Config(
    dict(
        model=dict(
            type='ImageTextPretrainer',
            data_preprocessor=dict(type='ImageTextPreprocessor', mean=[120.0] * 3, std=[60.0] * 3),
            image_encoder=dict(
                type='CLIPVisionTransformer',
                arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
                img_size=32,
                patch_size=8,
            ),
            image_projection=dict(type='ImageProjectionHead', in_channels=16, embed_dims=8),
            text_encoder=dict(type='CLIPTextTransformer', width=16, num_layers=1, num_heads=2),
            text_projection=dict(type='TextProjectionHead', in_channels=16, embed_dims=8),
            objectives=dict(contrast=dict(type='ImageTextContrast', loss=dict(type='InfoNCELoss'))),
        )
    )
)
