"""MaskCLIP of CVPR 2023, ViT-B/16, CC3M.

tools/dist_train.sh configs/maskclip/vitb16_cc3m_cvpr.py 32

Published (supplement, Table 1): ImageNet zero-shot 24.4, linear 66.1, fine-tuned 82.5. Here: not run at full scale. 25
epochs, which the supplement says of all experiments.
"""

_base_ = 'vitb16_yfcc15m_cvpr.py'

train_dataloader = dict(dataset=dict(urls='data/cc3m/{00000..00331}.tar', caption_key='txt'))
