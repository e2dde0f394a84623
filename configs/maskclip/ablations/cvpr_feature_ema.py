"""Ablation of MaskCLIP (CVPR): feature target from the EMA tower, without MLM.

tools/dist_train.sh configs/maskclip/ablations/cvpr_feature_ema.py 32

Published (supplement, Table 2, "+ EMA"): ImageNet zero-shot 42.8, fine-tuned 83.6; ADE20K 50.4; COCO 45.5/40.9;
Flickr30K I2T/T2I R@1 65.0/41.6. The next step, + MLM, is configs/maskclip/vitb16_yfcc15m_cvpr.py. Here: not run at full
scale.
"""

_base_ = '../vitb16_yfcc15m_cvpr.py'

model = dict(objectives=dict(mlm=None))
