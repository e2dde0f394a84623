# Dense tuning of released weights on images alone, from the folder $MMMASKCLIP_IMAGES (default data/my_images) and its
# folders. The text tower stays as it is, and the teacher is the model that the run starts from.
_base_ = ['../../finetune_clip/_base_/pairs.py']

model = dict(
    text_encoder=dict(frozen=True),
    text_projection=dict(frozen=True),
    teacher_momentum=1.0,
    objectives=dict(
        contrast=dict(_delete_=True, type='FixedTemperature'), preserve=dict(type='PreserveGlobal', weight=1.0)
    ),
)
# Learning rate, weight decay, batch and length of CLIPSelf, which has no layer decay.
train_dataloader = dict(
    batch_size=16,
    sampler=dict(type='ResumableSampler', shuffle=True),
    dataset=dict(
        _delete_=True,
        type='ImageTextPairs',
        ann_file='{{$MMMASKCLIP_IMAGES:data/my_images}}',
        format='images',
        views=dict(image=_base_.crop),
    ),
)
optim_wrapper = dict(
    constructor='PretrainOptimWrapperConstructor', paramwise_cfg=None, optimizer=dict(lr=1e-5, weight_decay=0.1)
)
train_cfg = dict(max_epochs=6, val_interval=1)
