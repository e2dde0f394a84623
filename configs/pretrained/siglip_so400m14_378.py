"""SigLIP, SoViT-400M/14 at 378 px (published as 384); OpenCLIP's file (timm/ViT-SO400M-14-SigLIP-378).

python tools/test.py configs/zero_shot/suite_slip26.py open_clip_model.safetensors \
    --model configs/pretrained/siglip_so400m14_378.py

The tokenizer is that of siglip_vitb16.py. Here: not run.
"""

_base_ = 'siglip_vitb16.py'

model = dict(
    image_encoder=dict(model_name='vit_so400m_patch14_siglip_378', img_size=378),
    image_projection=dict(in_channels=1152, num_heads=16, mlp_ratio=4304 / 1152),
    text_encoder=dict(width=1152, num_layers=27, num_heads=16, hidden=4304),
    text_projection=dict(in_channels=1152, embed_dims=1152),
)
