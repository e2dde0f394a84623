"""Ablation of MaskCLIP (CVPR): weight of MLM 1 in place of 0.05.

tools/dist_train.sh configs/maskclip/ablations/cvpr_mlm_weight_1.py 32

Published (Table 6f): ImageNet zero-shot 36.5; Flickr30K I2T/T2I R@1 51.7/32.1. Here: not run at full scale.
"""

_base_ = '../vitb16_yfcc15m_cvpr.py'

model = dict(objectives=dict(mlm=dict(weight=1.0)))
