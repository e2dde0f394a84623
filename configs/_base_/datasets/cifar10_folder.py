# 5,000 + 5,000 images of CIFAR-10 as JPEG files, split/CLASS/*.jpg, enlarged to 112 px (ours). Set MMMASKCLIP_EVAL to
# the folder that holds cifar10_folder/, as for configs/zero_shot/cifar10_folder.py.
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor',
    num_classes=10,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
train_dataloader = dict(
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmpretrain.CustomDataset',
        data_root='{{$MMMASKCLIP_EVAL:data/zero_shot}}/cifar10_folder/train',
        pipeline=[
            dict(type='mmpretrain.LoadImageFromFile'),
            dict(
                type='mmpretrain.RandomResizedCrop',
                scale=112,
                crop_ratio_range=(0.5, 1.0),
                backend='pillow',
                interpolation='bicubic',
            ),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmpretrain.CustomDataset',
        data_root='{{$MMMASKCLIP_EVAL:data/zero_shot}}/cifar10_folder/test',
        pipeline=[
            # Without its package: mmpretrain's inferencer looks for a step of this very name.
            dict(type='LoadImageFromFile'),
            dict(type='mmpretrain.Resize', scale=112, backend='pillow', interpolation='bicubic'),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
