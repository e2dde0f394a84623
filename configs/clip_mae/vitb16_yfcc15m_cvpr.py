"""CLIP + MAE: contrast, and reconstruction of hidden pixels (MaskCLIP's baseline), ViT-B/16, YFCC15M, 25 epochs.

tools/dist_train.sh configs/clip_mae/vitb16_yfcc15m_cvpr.py 32

Published (CVPR supplement, Table 2): ImageNet zero-shot 42.1, fine-tuned 83.2; ADE20K 49.1; COCO 44.5/40.4; Flickr30K
I2T/T2I R@1 57.3/41.1. Here: not run at full scale.
"""

_base_ = ['../clip/vitb16_yfcc15m.py', '../_base_/objectives/mae.py']

model = dict(
    objectives=dict(
        contrast=dict(loss=dict(reduction='sum')),
        pixels=dict(**_base_.pixel_reconstruction, decoder=_base_.mae_decoder_vitb16),
    ),
)

# As in configs/maskclip/vitb16_yfcc15m_cvpr.py: the paper's chain of ablations starts here (supplement, section B).
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=1, convert_to_iter_based=True),
]
