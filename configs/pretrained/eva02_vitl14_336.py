"""EVA02-CLIP, ViT-L/14 at 336 px; OpenCLIP's file (timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k).

python tools/test.py configs/zero_shot/suite_slip26.py open_clip_model.safetensors \
    --model configs/pretrained/eva02_vitl14_336.py

Published: ImageNet zero-shot 80.4 (OpenCLIP, docs/openclip_results.csv). Here: not run.
"""

_base_ = 'eva02_vitb16.py'

model = dict(
    image_encoder=dict(model_name='eva02_large_patch14_clip_336', img_size=336),
    image_projection=dict(in_channels=1024, embed_dims=768),
    text_encoder=dict(width=768, num_heads=12),
    text_projection=dict(in_channels=768, embed_dims=768),
)
