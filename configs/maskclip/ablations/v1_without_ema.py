"""Ablation of MaskCLIP v1: the target is the student itself, not its EMA.

tools/dist_train.sh configs/maskclip/ablations/v1_without_ema.py 32

Published (arXiv 2208.12262v1, Table 7): ImageNet zero-shot 46.5, linear 72.0, fine-tuned 83.5; Flickr30K I2T/T2I R@1
64.2/47.9; zero-shot ADE20K 10.3, UperNet 48.8. With EMA: 46.6, 72.5, 83.8; 64.9/48.1; 11.2, 49.6. Here: not run at full
scale.
"""

_base_ = '../vitb16_laion20m_v1.py'

model = dict(objectives=dict(distillation=dict(target='shared')))
