# About four minutes of MaskCLIP on two free cores. Ours.
optim_wrapper = dict(
    type='PretrainOptimWrapper',
    # Not bf16: on CPUs without instructions for it, it is many times slower.
    precision='fp32',
    constructor='PretrainOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1, fused=True),
)
train_cfg = dict(type='PretrainLoop', max_epochs=12, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    # Until the last epoch, whichever train_cfg.max_epochs says.
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=1, convert_to_iter_based=True),
]
