"""Perception Encoder, PE-Core-B/16 at 224 px; OpenCLIP's file (timm/PE-Core-B-16).

python tools/test.py configs/zero_shot/suite_slip26.py open_clip_model.safetensors \
    --model configs/pretrained/pe_core_vitb16.py

Here: not run.
"""

_base_ = 'eva02_vitb16.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, interpolation='bilinear', resize_mode='squash'),
    image_encoder=dict(model_name='vit_pe_core_base_patch16_224'),
    image_projection=dict(
        _delete_=True,
        type='AttentionPoolProjectionHead',
        in_channels=768,
        embed_dims=1024,
        num_heads=8,
        eps=1e-5,
        activation='gelu',
        with_cls=True,
        bias=True,
    ),
    text_encoder=dict(width=1024, num_layers=24, num_heads=16, context_length=32),
    text_projection=dict(in_channels=1024, embed_dims=1024),
)
