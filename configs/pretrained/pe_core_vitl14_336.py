"""Perception Encoder, PE-Core-L/14 at 336 px; OpenCLIP's file (timm/PE-Core-L-14-336).

python tools/test.py configs/zero_shot/suite_slip26.py open_clip_model.safetensors \
    --model configs/pretrained/pe_core_vitl14_336.py

Here: not run.
"""

_base_ = 'pe_core_vitb16.py'

model = dict(
    image_encoder=dict(model_name='vit_pe_core_large_patch14_336', img_size=336),
    image_projection=dict(in_channels=1024),
)
