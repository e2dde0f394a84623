"""CLIP + MAE: contrast, and reconstruction of hidden pixels (MaskCLIP's baseline), ViT-B/16, LAION-20M, 25 epochs.

tools/dist_train.sh configs/clip_mae/vitb16_laion20m_v1.py 32

Published (arXiv 2208.12262v1, Table 1): ImageNet zero-shot 43.5, linear 69.6, fine-tuned 83.5; Flickr30K I2T/T2I R@1
59.7/44.0; 1.30x the time of CLIP, 16 GB per GPU at 128 images. Here: not run at full scale.
"""

_base_ = ['../clip/vitb16_laion20m.py', '../_base_/objectives/mae.py']

model = dict(
    objectives=dict(
        pixels=dict(**_base_.pixel_reconstruction, decoder=_base_.mae_decoder_vitb16),
    ),
)
