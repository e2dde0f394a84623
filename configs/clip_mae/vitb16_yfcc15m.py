"""CLIP + MAE: contrast, and reconstruction of hidden pixels (MaskCLIP's baseline), ViT-B/16, YFCC15M, 25 epochs.

tools/dist_train.sh configs/clip_mae/vitb16_yfcc15m.py 32

Published (CVPR supplement, Table 2): ImageNet zero-shot 42.1, fine-tuned 83.2; ADE20K 49.1; COCO 44.5/40.4; Flickr30K
I2T/T2I R@1 57.3/41.1. Here: not run at full scale.
"""

_base_ = '../clip/vitb16_yfcc15m.py'

model = dict(
    objectives=dict(
        pixels=dict(
            type='PixelReconstruction',
            mask=dict(type='RandomMask', ratio=0.75),
            # MAE's own decoder (He et al. 2022).
            decoder=dict(
                type='mmpretrain.MAEPretrainDecoder',
                num_patches=196,
                patch_size=16,
                embed_dim=768,
                decoder_embed_dim=512,
                decoder_depth=8,
                decoder_num_heads=16,
            ),
            patch_size=16,
            norm_pix=True,
            # The paper does not say it; ours.
            weight=1.0,
        ),
    ),
)
