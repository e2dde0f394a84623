"""SigLIP 2 of variable shapes (NaFlex), ViT-B/16; Hugging Face's file (google/siglip2-base-patch16-naflex).

python tools/test.py configs/zero_shot_seg/ade20k_maskclip.py model.safetensors \
    --model configs/pretrained/siglip2_vitb16_naflex.py

Images keep their aspect ratio, at no more than 256 patches: resize_mode='patches'. tools/test.py therefore encodes
them one at a time.
The tokenizer is SigLIP 2's, see siglip2_vitb16.py. Here: not run.
"""

_base_ = 'siglip2_vitb16_256.py'

model = dict(
    data_preprocessor=dict(interpolation='bilinear', resize_mode='patches'),
    image_encoder=dict(act_layer='gelu_tanh', position_interpolation='bilinear'),
    image_projection=dict(activation='gelu_tanh'),
)
