# Fine-tuning released weights on own pairs: data, validation, optimizer and schedule. The folder $MMMASKCLIP_PAIRS
# (default data/my_pairs) has tar shards as img2dataset writes them: train-*.tar, and val-*.tar, which are held out.
# What the model knew before is watched on CIFAR-10 if that lies in $MMMASKCLIP_EVAL (default data/zero_shot).
_base_ = '../../_base_/default_runtime.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks_where_present

pairs = '{{$MMMASKCLIP_PAIRS:data/my_pairs}}'
# Milder than in pretraining: the tower knows what things look like.
crop = [dict(type='torchvision/RandomResizedCrop', size=224, scale=(0.8, 1.0), interpolation='bicubic')]
whole = [
    dict(type='torchvision/Resize', size=224, interpolation='bicubic'),
    dict(type='torchvision/CenterCrop', size=224),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='mmmaskclip.collate_image_text'),
    dataset=dict(
        type='ImageTextShards',
        urls=pairs + '/train-*.tar',
        caption_key='txt',
        views=dict(image=crop),
        identify_images=True,
    ),
)
zero_shot = tasks_where_present('cifar10', '{{$MMMASKCLIP_EVAL:data/zero_shot}}', resize='bicubic')
val_dataloader = dict(
    retrieval=dict(
        batch_size=64,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='mmmaskclip.collate_image_text'),
        dataset=dict(type='EvaluationShards', urls=pairs + '/val-*.tar', caption_key='txt', transforms=whole),
    ),
    **zero_shot[0],
)
val_evaluator = dict(retrieval=dict(type='RetrievalRecall', topk=(1, 5, 10)), **zero_shot[1])
val_cfg = dict(type='EvaluationLoop')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = val_cfg

# lr 1e-5 and weight decay 0.1 are those of FLYP (Goyal et al. 2023, arXiv 2212.00638), which fine-tunes CLIP with its
# own contrastive loss, as we recall them. Layers learn the slower the nearer they are to the input (BEiT).
optim_wrapper = dict(
    type='PretrainOptimWrapper',
    precision='bf16',
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7),
    optimizer=dict(type='AdamW', lr=1e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1, fused=True),
)
train_cfg = dict(type='PretrainLoop', max_epochs=10, val_interval=1)
# Ratios, because layer decay scales the whole schedule of a layer.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=0.5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-2, by_epoch=True, begin=0.5, convert_to_iter_based=True),
]
# Validates before the first step, and warns when zero-shot accuracy falls by more than two points.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='LongCaptionsHook'),
    dict(type='GeneralAbilityHook', max_fall=2.0),
]
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=2, async_save=True)
)
