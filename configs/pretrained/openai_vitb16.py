"""CLIP, ViT-B/16, OpenAI's weights: their archive, OpenCLIP's or Hugging Face's copy.

python tools/test.py configs/zero_shot/suite_slip26.py ViT-B-16.pt --model configs/pretrained/openai_vitb16.py

Published: ImageNet zero-shot 68.3 (OpenCLIP, docs/openclip_results.csv; 80 templates, bicubic resize). Here: not run.
"""

_base_ = '../_base_/models/clip_vitb16_224.py'

model = dict(
    # OpenAI's, times 255 (clip/clip.py).
    data_preprocessor=dict(
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],
        interpolation='bicubic',
    ),
    image_encoder=dict(pre_norm=True, norm_cfg=dict(type='LN', eps=1e-5), quick_gelu=True),
    image_projection=dict(pool='cls'),
    text_encoder=dict(quick_gelu=True),
)
