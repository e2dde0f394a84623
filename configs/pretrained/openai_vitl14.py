"""CLIP, ViT-L/14, OpenAI's weights: their archive, OpenCLIP's or Hugging Face's copy.

python tools/test.py configs/zero_shot/suite_slip26.py ViT-L-14.pt --model configs/pretrained/openai_vitl14.py

Published: ImageNet zero-shot 75.5 (OpenCLIP, docs/openclip_results.csv; 80 templates, bicubic resize). Here: not run.
"""

_base_ = 'openai_vitb16.py'

model = dict(
    image_encoder=dict(arch='ViT-L/14'),
    image_projection=dict(in_channels=1024, embed_dims=768),
    text_encoder=dict(width=768, num_heads=12),
    text_projection=dict(in_channels=768, embed_dims=768),
)
