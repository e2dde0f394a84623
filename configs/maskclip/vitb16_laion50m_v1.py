"""MaskCLIP v1, ViT-B/16, 50 million pairs of LAION, 25 epochs.

tools/dist_train.sh configs/maskclip/vitb16_laion50m_v1.py 32

Published (arXiv 2208.12262v1, data scaling): ImageNet zero-shot 50.9, linear 73.4, fine-tuned 83.9; Flickr30K I2T/T2I
R@1 71.4/54.5; UperNet ADE20K 49.9, zero-shot 12.6. Here: not run at full scale.
"""

_base_ = 'vitb16_laion20m_v1.py'

train_dataloader = dict(dataset=dict(urls='data/laion50m/{00000..04999}.tar'))
