"""Ablation of maskclip_fast: half of the images of each batch are distilled.

python tools/train.py configs/maskclip_fast/ablations/vitxs8_scenes_half_images.py

Not run.
"""

_base_ = 'vitxs8_scenes.py'

model = dict(objectives=dict(distillation=dict(image_share=0.5)))
