"""SigLIP 2, ViT-B/16 at 256 px; OpenCLIP's file (timm/ViT-B-16-SigLIP2-256).

python tools/test.py configs/zero_shot/suite_slip26.py open_clip_model.safetensors \
    --model configs/pretrained/siglip2_vitb16_256.py

Published: ImageNet zero-shot 79.1 (big_vision, README_siglip2.md). Here: not run.
"""

_base_ = 'siglip2_vitb16.py'

model = dict(image_encoder=dict(model_name='vit_base_patch16_siglip_256', img_size=256))
