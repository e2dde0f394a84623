"""Ablation of maskclip_fast: the loss looks at a random half of the patches, and 81 % are hidden.

python tools/train.py configs/maskclip_fast/ablations/vitxs8_scenes_half_patches_masked_81.py

Not run.
"""

_base_ = '../vitxs16_scenes.py'

model = dict(
    image_encoder=dict(patch_size=8),
    objectives=dict(distillation=dict(decoder=dict(num_patches=64), mask=dict(ratio=0.81), loss_share=0.5)),
)
train_cfg = dict(val_interval=100)
