"""EVA02-CLIP, ViT-B/16 at 224 px; OpenCLIP's file (timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k).

python tools/test.py configs/zero_shot/suite_slip26.py open_clip_model.safetensors \
    --model configs/pretrained/eva02_vitb16.py

Published: ImageNet zero-shot 74.7 (OpenCLIP, docs/openclip_results.csv). Here: not run.
"""

model = dict(
    type='ImageTextPretrainer',
    # OpenAI's, times 255.
    data_preprocessor=dict(
        type='ImageTextPreprocessor',
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],
        interpolation='bicubic',
    ),
    image_encoder=dict(type='TimmTower', model_name='eva02_base_patch16_clip_224', img_size=224),
    image_projection=dict(type='ImageProjectionHead', in_channels=768, embed_dims=512, pool='cls', bias=True),
    text_encoder=dict(type='CLIPTextTransformer'),
    text_projection=dict(type='TextProjectionHead', in_channels=512, embed_dims=512),
    objectives=dict(contrast=dict(type='ImageTextContrast')),
)
