"""MaskCLIP v1, ViT-B/16, LAION-20M, 50 epochs.

tools/dist_train.sh configs/maskclip/vitb16_laion20m_v1_50e.py 32

Published as a curve only (arXiv 2208.12262v1, Figure 3). Here: not run at full scale.
"""

_base_ = 'vitb16_laion20m_v1.py'

train_cfg = dict(max_epochs=50)
