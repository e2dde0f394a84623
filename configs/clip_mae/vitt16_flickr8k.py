"""CLIP + MAE: contrast, and reconstruction of hidden pixels (MaskCLIP's baseline), ViT-Ti/16 at 112 px, on Flickr8k.

python tools/train.py configs/clip_mae/vitt16_flickr8k.py

Not run.
"""

_base_ = ['../clip/vitt16_flickr8k.py', '../_base_/objectives/mae.py']

model = dict(
    objectives=dict(
        pixels=dict(
            **_base_.pixel_reconstruction,
            # Smaller than MAE's, in proportion to the tower.
            decoder=dict(
                **_base_.mae_decoder,
                num_patches=49,
                embed_dim=192,
                decoder_embed_dim=128,
                decoder_depth=2,
                decoder_num_heads=4,
            ),
        ),
    ),
)
