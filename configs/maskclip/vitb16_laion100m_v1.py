"""MaskCLIP v1, ViT-B/16, 100 million pairs of LAION, 25 epochs.

tools/dist_train.sh configs/maskclip/vitb16_laion100m_v1.py 32

Published (arXiv 2208.12262v1, data scaling): ImageNet zero-shot 53.6, linear 74.8, fine-tuned 84.0; Flickr30K I2T/T2I
R@1 73.5/55.7; UperNet ADE20K 50.2, zero-shot 13.3. Here: not run at full scale.
"""

_base_ = 'vitb16_laion20m_v1.py'

train_dataloader = dict(dataset=dict(urls='data/laion100m/{00000..09999}.tar'))
