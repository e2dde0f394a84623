"""Ablation of maskclip_fast: 81 % of the patches are hidden in place of 75 %.

python tools/train.py configs/maskclip_fast/ablations/vitxs8_scenes_masked_81.py

Not run.
"""

_base_ = 'vitxs8_scenes.py'

model = dict(objectives=dict(distillation=dict(mask=dict(ratio=0.81))))
