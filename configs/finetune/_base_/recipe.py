# MaskCLIP's fine-tuning (supplement, section B): lr 6e-4, layer decay 0.7, mean of the patches of the last block.
# Weight decay 0.05 is FT-CLIP's, the first author's later fine-tuning of CLIP at the same lr. The tower's final norm
# stands before the mean, as in pretraining.
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmmaskclip.CLIPVisionTransformer',
        # mmpretrain's avg_featmap has a norm after the mean, which pretraining has not.
        out_type='featmap',
        init_cfg=dict(type='Pretrained', prefix='image_encoder.'),
    ),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmmaskclip.Float32LinearClsHead',
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        # MAE's: a head that begins near zero leaves the tower as it was in the first steps.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5),
    ),
)
optim_wrapper = dict(
    type='mmmaskclip.PretrainOptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmmaskclip.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7, norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
# BEiT's layer decay scales the whole schedule of a layer, its start and its end with it: hence ratios.
warm_up = dict(type='mmengine.LinearLR', start_factor=1 / 600, by_epoch=True, begin=0, convert_to_iter_based=True)
cosine = dict(type='mmengine.CosineAnnealingLR', eta_min_ratio=1 / 600, by_epoch=True, convert_to_iter_based=True)
