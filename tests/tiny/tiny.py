# Trains tiny_parts.TinyModel for two epochs of eight batches.
_base_ = '../../configs/_base_/default_runtime.py'
custom_imports = dict(imports=['tiny_parts'])

model = dict(type='TinyModel')
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(type='TinyShards'),
    collate_fn=dict(type='mmmaskclip.tiny_collate'),
)
train_cfg = dict(type='PretrainLoop', max_epochs=2)
optim_wrapper = dict(
    type='PretrainOptimWrapper',
    constructor='PretrainOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1, fused=True),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', by_epoch=False, start_factor=0.1, begin=0, end=4),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=4, end=16, T_max=12),
]
default_hooks = dict(logger=dict(interval=4), checkpoint=dict(interval=5, max_keep_ckpts=9))

test_dataloader = dict(
    batch_size=3,
    num_workers=0,
    dataset=dict(type='TinyPairs', size=7),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmmaskclip.tiny_collate'),
)
test_evaluator = dict(type='TinyMetric')
test_cfg = dict(type='TestLoop')
