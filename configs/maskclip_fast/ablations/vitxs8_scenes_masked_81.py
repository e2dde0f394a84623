"""Ablation of maskclip_fast: 81 % of the patches are hidden in place of 75 %.

python tools/train.py configs/maskclip_fast/ablations/vitxs8_scenes_masked_81.py

Not run.
"""

_base_ = '../vitxs16_scenes.py'

model = dict(
    image_encoder=dict(patch_size=8),
    objectives=dict(distillation=dict(decoder=dict(num_patches=64), mask=dict(ratio=0.81))),
)
train_cfg = dict(val_interval=100)
