"""MAE (He et al. 2022) alone, with mmpretrain's classes, ViT-Ti/16 at 112 px, on the images of Flickr8k.

python tools/train.py configs/mae/vitt16_flickr8k.py

Not run.
The optimizer and its schedule are CLIP's on the same data.
"""

_base_ = '../clip/vitt16_flickr8k.py'

model = dict(
    _delete_=True,
    type='mmpretrain.MAE',
    data_preprocessor=dict(
        type='mmmaskclip.ImageViewsPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        views=('image',),
    ),
    backbone=dict(
        type='mmpretrain.MAEViT',
        arch=dict(embed_dims=192, num_layers=12, num_heads=3, feedforward_channels=768),
        img_size=112,
        patch_size=16,
        mask_ratio=0.75,
    ),
    neck=dict(
        type='mmpretrain.MAEPretrainDecoder',
        num_patches=49,
        patch_size=16,
        embed_dim=192,
        decoder_embed_dim=128,
        decoder_depth=2,
        decoder_num_heads=4,
        # As in MAE; torch's default for linear layers is smaller.
        init_cfg=[
            dict(type='Xavier', layer='Linear', distribution='uniform'),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ),
    head=dict(
        type='mmpretrain.MAEPretrainHead',
        norm_pix=True,
        patch_size=16,
        loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2'),
    ),
)
# It has no text tower, hence neither schedules of ours nor zero-shot evaluation.
custom_hooks = [dict(type='NonFiniteHook'), dict(type='BadSamplesHook')]
val_cfg = val_dataloader = val_evaluator = None
test_cfg = test_dataloader = test_evaluator = None
