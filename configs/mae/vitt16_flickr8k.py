"""MAE (He et al. 2022) alone, with mmpretrain's classes, ViT-Ti/16 at 112 px, on the images of Flickr8k.

python tools/train.py configs/mae/vitt16_flickr8k.py

Not run.
The optimizer and its schedule are CLIP's on the same data.
"""

_base_ = ['../clip/vitt16_flickr8k.py', '../_base_/objectives/mae.py']

model = dict(
    _delete_=True,
    **_base_.mae,
    backbone=dict(
        **_base_.mae_encoder,
        arch=dict(embed_dims=192, num_layers=12, num_heads=3, feedforward_channels=768),
        img_size=112,
    ),
    neck=_base_.mae_decoder_vitt16,
)
# It has no text tower, hence neither schedules of ours nor zero-shot evaluation.
custom_hooks = [dict(type='NonFiniteHook'), dict(type='BadSamplesHook')]
val_cfg = val_dataloader = val_evaluator = test_cfg = test_dataloader = test_evaluator = None
