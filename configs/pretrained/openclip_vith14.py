"""CLIP, ViT-H/14, OpenCLIP's laion2b_s32b_b79k (GELU); OpenCLIP's or Hugging Face's file.

python tools/test.py configs/zero_shot/suite_slip26.py model.safetensors --model configs/pretrained/openclip_vith14.py

Published: ImageNet zero-shot 78.0 (OpenCLIP, docs/openclip_results.csv; 80 templates, bicubic resize). Here: not run.
"""

_base_ = 'openai_vitb16.py'

model = dict(
    image_encoder=dict(
        _delete_=True,
        type='CLIPVisionTransformer',
        arch=dict(embed_dims=1280, num_layers=32, num_heads=16, feedforward_channels=5120),
        patch_size=14,
        img_size=224,
        pre_norm=True,
        norm_cfg=dict(type='LN', eps=1e-5),
    ),
    image_projection=dict(in_channels=1280, embed_dims=1024),
    text_encoder=dict(width=1024, num_layers=24, num_heads=16, quick_gelu=False),
    text_projection=dict(in_channels=1024, embed_dims=1024),
)
