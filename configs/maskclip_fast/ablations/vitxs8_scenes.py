"""Ablation of maskclip_fast: as it is, on generated scenes, with 8 x 8 patches.

python tools/train.py configs/maskclip_fast/ablations/vitxs8_scenes.py

The others here differ from it in one or two options. Patches of 8 pixels, because a share of 16 patches is coarse.
Not run.
"""

_base_ = '../vitxs16_scenes.py'

model = dict(
    image_encoder=dict(patch_size=8),
    objectives=dict(distillation=dict(decoder=dict(num_patches=64))),
)
train_cfg = dict(val_interval=100)
