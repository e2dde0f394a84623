"""Ablation of maskclip_fast: CLIP alone, on generated scenes, with 8 x 8 patches.

python tools/train.py configs/maskclip_fast/ablations/vitxs8_scenes_clip.py

Not run.
"""

_base_ = '../../clip/vitxs16_scenes.py'

model = dict(image_encoder=dict(patch_size=8))
train_cfg = dict(val_interval=100)
