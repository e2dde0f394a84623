# 25 epochs, one of warm-up, cosine to 1e-5 (MaskCLIP supplement, section B); betas, eps and start as in SLIP.
optim_wrapper = dict(
    type='PretrainOptimWrapper',
    # bfloat16 where the GPU has it; with `--amp fp16` on older ones, such as the paper's V100.
    precision='bf16',
    constructor='PretrainOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.5, fused=True),
)
train_cfg = dict(type='PretrainLoop', max_epochs=25)
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-3, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    # Until the last epoch, whichever train_cfg.max_epochs says.
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=1, convert_to_iter_based=True),
]
# 32 processes x 128 images.
auto_scale_lr = dict(base_batch_size=4096, enable=False)
