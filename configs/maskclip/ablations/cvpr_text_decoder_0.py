"""Ablation of MaskCLIP (CVPR): MLM predicted by a linear head on the text tower.

tools/dist_train.sh configs/maskclip/ablations/cvpr_text_decoder_0.py 32

Published (Table 6d): Flickr30K I2T/T2I R@1 65.2/44.1 (with 4 layers 70.1/45.6). Here: not run at full scale.
"""

_base_ = '../vitb16_yfcc15m_cvpr.py'

model = dict(objectives=dict(mlm=dict(decoder=dict(depth=0))))
