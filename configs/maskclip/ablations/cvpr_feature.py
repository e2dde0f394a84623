"""Ablation of MaskCLIP (CVPR): feature target without EMA tower and without MLM.

tools/dist_train.sh configs/maskclip/ablations/cvpr_feature.py 32

Published (supplement, Table 2, "+ feature"): ImageNet zero-shot 42.6, fine-tuned 83.4; ADE20K 49.9; COCO 45.1/40.6;
Flickr30K I2T/T2I R@1 62.3/41.4. The step before it, pixels, is configs/clip_mae/vitb16_yfcc15m_cvpr.py. The head of
the codewords still follows by EMA: the paper does not say how its targets were made without. Here: not run at full
scale.
"""

_base_ = '../vitb16_yfcc15m_cvpr.py'

model = dict(objectives=dict(distillation=dict(target='shared'), mlm=None))
