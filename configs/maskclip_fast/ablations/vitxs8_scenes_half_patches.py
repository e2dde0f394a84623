"""Ablation of maskclip_fast: the loss looks at a random half of the patches.

python tools/train.py configs/maskclip_fast/ablations/vitxs8_scenes_half_patches.py

Not run.
"""

_base_ = 'vitxs8_scenes.py'

model = dict(objectives=dict(distillation=dict(loss_share=0.5)))
