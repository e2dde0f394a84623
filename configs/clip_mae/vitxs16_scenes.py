"""CLIP + MAE: contrast, and reconstruction of hidden pixels (MaskCLIP's baseline), on generated scenes of coloured
shapes.

python tools/train.py configs/clip_mae/vitxs16_scenes.py

Measured on 2026-11-22, two cores, seeds 0 and 1, held-out scenes: classification top-1 40.2 %, image to text R@1 18.4
%, text to image R@1 11.3 %, segmentation mIoU 12.9 %. More in docs/results.md.
"""

_base_ = ['../clip/vitxs16_scenes.py', '../_base_/objectives/mae.py']

model = dict(
    objectives=dict(
        pixels=dict(
            **_base_.pixel_reconstruction,
            # Smaller than MAE's, in proportion to the tower.
            decoder=dict(
                **_base_.mae_decoder,
                num_patches=16,
                embed_dim=128,
                decoder_embed_dim=128,
                decoder_depth=2,
                decoder_num_heads=4,
            ),
        ),
    ),
)
