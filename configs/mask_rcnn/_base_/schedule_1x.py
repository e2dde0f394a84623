# 12 epochs, AdamW 1e-4, weight decay 0.05, layer decay 0.75, a tenth after the epochs 8 and 11 (MaskCLIP supplement).
# It says nothing of a warm-up; 500 steps are mmdet's.
optim_wrapper = dict(
    type='mmmaskclip.PretrainOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmmaskclip.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75, norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, milestones=[8, 11], gamma=0.1),
]
