"""CLIP, ViT-B/16, LAION-20M, 100 epochs: the long baseline of MaskCLIP v1.

tools/dist_train.sh configs/clip/vitb16_laion20m_100e.py 32

Published (arXiv 2208.12262v1): ImageNet zero-shot 45.9, linear 68.9, fine-tuned 82.7. Here: not run at full scale.
"""

_base_ = 'vitb16_laion20m.py'

train_cfg = dict(max_epochs=100)
