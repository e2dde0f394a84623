"""Ablation of MaskCLIP (CVPR): weight of MLM 0.01 in place of 0.05.

tools/dist_train.sh configs/maskclip/ablations/cvpr_mlm_weight_0p01.py 32

Published (Table 6f): ImageNet zero-shot 43.2; Flickr30K I2T/T2I R@1 70.6/45.6. Here: not run at full scale.
"""

_base_ = '../vitb16_yfcc15m_cvpr.py'

model = dict(objectives=dict(mlm=dict(weight=0.01)))
