# Dense tuning of released weights on images alone, from the folder $MMMASKCLIP_IMAGES (default data/my_images) and its
# folders. Captions are neither read nor needed; the held-out pairs of ../../finetune_clip/_base_/pairs.py, if there
# are any, are evaluated all the same.
_base_ = ['../../finetune_clip/_base_/pairs.py', './kept.py']

# Learning rate, weight decay, batch and length are CLIPSelf's, which has no layer decay.
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
train_cfg = dict(max_epochs=6)
# In place of fine-tuning's watch, which only warns.
custom_hooks = [*_base_.custom_hooks[:-1], _base_.watch]
