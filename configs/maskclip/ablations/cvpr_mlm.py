"""Ablation of MaskCLIP (CVPR): MLM without distillation.

tools/dist_train.sh configs/maskclip/ablations/cvpr_mlm.py 32

Published (Table 6a): Flickr30K I2T/T2I R@1 65.4/40.5. Here: not run at full scale.
"""

_base_ = '../vitb16_yfcc15m_cvpr.py'

model = dict(objectives=dict(distillation=None))
