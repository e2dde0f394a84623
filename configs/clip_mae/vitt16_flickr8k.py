"""CLIP + MAE: contrast, and reconstruction of hidden pixels (MaskCLIP's baseline), ViT-Ti/16 at 112 px, on Flickr8k.

python tools/train.py configs/clip_mae/vitt16_flickr8k.py

Not run.
"""

_base_ = '../clip/vitt16_flickr8k.py'

model = dict(
    objectives=dict(
        pixels=dict(
            type='PixelReconstruction',
            mask=dict(type='RandomMask', ratio=0.75),
            # Smaller than MAE's, in proportion to the tower.
            decoder=dict(
                type='mmpretrain.MAEPretrainDecoder',
                num_patches=49,
                patch_size=16,
                embed_dim=192,
                decoder_embed_dim=128,
                decoder_depth=2,
                decoder_num_heads=4,
                # As in MAE; torch's default for linear layers is smaller.
                init_cfg=[
                    dict(type='Xavier', layer='Linear', distribution='uniform'),
                    dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
                ],
            ),
            patch_size=16,
            norm_pix=True,
            # The paper does not say it; ours.
            weight=1.0,
        ),
    ),
)
