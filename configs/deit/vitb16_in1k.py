"""DeiT: ViT-B/16 trained on the labels of ImageNet-1K, 300 epochs; the supervised row of MaskCLIP v1's Table 4.

tools/dist_train.sh configs/deit/vitb16_in1k.py 16

Published: top-1 81.8 (Touvron et al. 2021); UperNet ADE20K 47.4, Mask R-CNN COCO 44.1/39.8 (arXiv 2208.12262v1, Table
4). Here: not run at full scale. The recipe is mmpretrain's, 16 processes x 64 images; ImageNet is at data/imagenet; our
tower starts from Xavier weights, where the recipe has truncated normal ones.
"""

_base_ = 'mmpretrain::deit/deit-base_16xb64_in1k.py'

optim_wrapper = dict(type='mmmaskclip.PretrainOptimWrapper')
default_hooks = dict(
    checkpoint=dict(type='mmmaskclip.ReliableCheckpointHook', max_keep_ckpts=2),
    preemption=dict(type='mmmaskclip.PreemptionHook'),
    watchdog=dict(type='mmmaskclip.WatchdogHook'),
    nonfinite=dict(type='mmmaskclip.NonFiniteHook'),
)
# Our tower, so that its weights go where those of the pretrained ones go.
model = dict(
    backbone=dict(
        _delete_=True, type='mmmaskclip.CLIPVisionTransformer', arch='ViT-B/16', img_size=224, drop_path_rate=0.1
    )
)
