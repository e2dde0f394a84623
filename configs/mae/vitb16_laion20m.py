"""MAE (He et al. 2022) alone, with mmpretrain's classes, ViT-B/16, on the images of LAION-20M, 25 epochs.

tools/dist_train.sh configs/mae/vitb16_laion20m.py 32

Published (arXiv 2208.12262v1, Table 4): linear 50.1, fine-tuned 82.7; UperNet ADE20K 44.5. Here: not run at full scale.
The optimizer and its schedule are CLIP's on the same data.
"""

_base_ = '../clip/vitb16_laion20m.py'

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
        arch='b',
        img_size=224,
        patch_size=16,
        mask_ratio=0.75,
    ),
    neck=dict(
        type='mmpretrain.MAEPretrainDecoder',
        num_patches=196,
        patch_size=16,
        embed_dim=768,
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16,
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
