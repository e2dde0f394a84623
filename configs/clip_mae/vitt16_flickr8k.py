"""CLIP + MAE: contrast, and reconstruction of hidden pixels (MaskCLIP's baseline), ViT-Ti/16 at 112 px, on Flickr8k.

python tools/train.py configs/clip_mae/vitt16_flickr8k.py

Not run.
"""

_base_ = ['../clip/vitt16_flickr8k.py', '../_base_/objectives/mae.py']

model = dict(
    objectives=dict(
        pixels=dict(**_base_.pixel_reconstruction, decoder=_base_.mae_decoder_vitt16),
    ),
)
