"""CLIP, ViT-L/14 at 336 px, OpenAI's weights: their archive, OpenCLIP's or Hugging Face's copy.

python tools/test.py configs/zero_shot/suite_slip26.py ViT-L-14-336px.pt --model configs/pretrained/openai_vitl14_336.py

Published: ImageNet zero-shot 76.6 (OpenCLIP, docs/openclip_results.csv; 80 templates, bicubic resize). Here: not run.
"""

_base_ = 'openai_vitl14.py'

model = dict(image_encoder=dict(img_size=336))
