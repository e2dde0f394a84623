# MaskCLIP's linear probe (supplement, section B): frozen tower, mean of the patches, batch norm without affine,
# LARS, lr 6.4, momentum 0.9, weight decay 0, cosine to 0. The head's start and LARS' trust ratio without the bias are
# MAE's, which the paper follows; the mean of the patches is of BootMAE's code (--global_pool), whose lr and batch
# these are.
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmmaskclip.CLIPVisionTransformer',
        frozen_stages=12,
        # mmpretrain's avg_featmap has a norm after the mean, which pretraining has not.
        out_type='featmap',
        init_cfg=dict(type='Pretrained', prefix='image_encoder.'),
    ),
    head=dict(
        type='mmmaskclip.Float32LinearClsHead',
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01),
    ),
)
optim_wrapper = dict(
    type='mmmaskclip.PretrainOptimWrapper',
    optimizer=dict(type='mmpretrain.LARS', lr=6.4, momentum=0.9, weight_decay=0.0),
    # Leaves the frozen tower out of the optimizer.
    constructor='mmmaskclip.PretrainOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys={'head.fc.bias': dict(lars_exclude=True)}),
)
warm_up = dict(type='mmengine.LinearLR', start_factor=1e-4, by_epoch=True, begin=0, convert_to_iter_based=True)
cosine = dict(type='mmengine.CosineAnnealingLR', eta_min=0.0, by_epoch=True, convert_to_iter_based=True)
# Batch norm sees its own process's images, as MAE's does; for evaluation all take the mean of their statistics.
custom_hooks = [dict(type='mmengine.SyncBuffersHook')]
