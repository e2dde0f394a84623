"""CLIP, ViT-B/32, OpenAI's weights: their archive, OpenCLIP's or Hugging Face's copy.

python tools/test.py configs/zero_shot/suite_slip26.py ViT-B-32.pt --model configs/pretrained/openai_vitb32.py

Published: ImageNet zero-shot 63.3 (OpenCLIP, docs/openclip_results.csv; 80 templates, bicubic resize). Here: not run.
"""

_base_ = 'openai_vitb16.py'

model = dict(image_encoder=dict(arch='ViT-B/32'))
