"""CLIP, ViT-B/32, OpenCLIP's weights with GELU, e.g. laion2b_s34b_b79k; OpenCLIP's or Hugging Face's file.

python tools/test.py configs/zero_shot/suite_slip26.py model.safetensors --model configs/pretrained/openclip_vitb32.py

Published: ImageNet zero-shot 66.6 (OpenCLIP, docs/openclip_results.csv; 80 templates, bicubic resize). Here: not run.
"""

_base_ = 'openai_vitb16.py'

model = dict(image_encoder=dict(arch='ViT-B/32', quick_gelu=False), text_encoder=dict(quick_gelu=False))
