"""CLIP, ViT-L/14, OpenCLIP's laion2b_s32b_b82k (GELU, mean and std 0.5); OpenCLIP's or Hugging Face's file.

python tools/test.py configs/zero_shot/suite_slip26.py model.safetensors --model configs/pretrained/openclip_vitl14.py

Published: ImageNet zero-shot 75.3 (OpenCLIP, docs/openclip_results.csv; 80 templates, bicubic resize). Here: not run.
"""

_base_ = 'openai_vitl14.py'

model = dict(
    # Of this training alone; OpenCLIP's other ViT-L/14 have OpenAI's.
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    image_encoder=dict(quick_gelu=False),
    text_encoder=dict(quick_gelu=False),
)
