"""MobileCLIP-B and MobileCLIP2-B, a ViT-B/16 with a convolutional stem; OpenCLIP's file (apple/MobileCLIP2-B).

python tools/test.py configs/zero_shot/suite_slip26.py open_clip_model.safetensors \
    --model configs/pretrained/mobileclip_vitb16.py

Published: ImageNet zero-shot 79.4 for MobileCLIP2-B (ml-mobileclip's README). Here: not run.
"""

_base_ = 'eva02_vitb16.py'

model = dict(
    data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3, interpolation='bilinear'),
    image_encoder=dict(model_name='vit_base_mci_224'),
)
