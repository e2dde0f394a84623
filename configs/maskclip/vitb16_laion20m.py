"""MaskCLIP, ViT-B/16, LAION-20M, 25 epochs: the headline run of the paper (arXiv 2208.12262v1), on 32 GPUs.

tools/dist_train.sh configs/maskclip/vitb16_laion20m.py 32

The short name of vitb16_laion20m_v1.py. Published: as for that config. Here: not run at full scale.
"""

_base_ = 'vitb16_laion20m_v1.py'
