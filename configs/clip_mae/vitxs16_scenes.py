"""CLIP + MAE: contrast, and reconstruction of hidden pixels (MaskCLIP's baseline), on generated scenes of coloured
shapes.

python tools/train.py configs/clip_mae/vitxs16_scenes.py

Measured on 2026-11-22, two cores, seeds 0 and 1, held-out scenes: classification top-1 40.2 %, image to text R@1 18.4
%, text to image R@1 11.3 %, segmentation mIoU 12.9 %. More in docs/results.md.
"""

_base_ = '../clip/vitxs16_scenes.py'

model = dict(
    objectives=dict(
        pixels=dict(
            type='PixelReconstruction',
            mask=dict(type='RandomMask', ratio=0.75),
            # Smaller than MAE's, in proportion to the tower.
            decoder=dict(
                type='mmpretrain.MAEPretrainDecoder',
                num_patches=16,
                patch_size=16,
                embed_dim=128,
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
