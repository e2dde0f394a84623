"""CLIP, ViT-bigG/14, OpenCLIP's laion2b_s39b_b160k (GELU); OpenCLIP's or Hugging Face's file.

python tools/test.py configs/zero_shot/suite_slip26.py model.safetensors \
    --model configs/pretrained/openclip_vitbigg14.py

Published: ImageNet zero-shot 80.1 (OpenCLIP, docs/openclip_results.csv; 80 templates, bicubic resize). Here: not run.
"""

_base_ = 'openclip_vith14.py'

model = dict(
    image_encoder=dict(arch=dict(embed_dims=1664, num_layers=48, num_heads=16, feedforward_channels=8192)),
    image_projection=dict(in_channels=1664, embed_dims=1280),
    text_encoder=dict(width=1280, num_layers=32, num_heads=20),
    text_projection=dict(in_channels=1280, embed_dims=1280),
)
