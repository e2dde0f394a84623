"""CLIP, ViT-B/32, YFCC15M, 25 epochs: a baseline of MaskCLIP's supplement.

tools/dist_train.sh configs/clip/vitb32_yfcc15m.py 32

Published (supplement, Table 1): ImageNet zero-shot 26.1, linear 60.5, fine-tuned 74.3. Here: not run at full scale.
"""

_base_ = 'vitb16_yfcc15m.py'

model = dict(image_encoder=dict(arch='ViT-B/32'))
