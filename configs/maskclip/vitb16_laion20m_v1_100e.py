"""MaskCLIP v1, ViT-B/16, LAION-20M, 100 epochs.

tools/dist_train.sh configs/maskclip/vitb16_laion20m_v1_100e.py 32

Published (arXiv 2208.12262v1): ImageNet zero-shot 49.8, linear 72.9, fine-tuned 84.1; Flickr30K I2T/T2I R@1 69.9/52.4;
COCO 40.9/26.5; UperNet ADE20K 50.8. Here: not run at full scale.
"""

_base_ = 'vitb16_laion20m_v1.py'

train_cfg = dict(max_epochs=100)
