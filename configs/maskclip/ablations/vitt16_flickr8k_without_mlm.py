"""Ablation of MaskCLIP (CVPR) without its text branch, ViT-Ti/16 at 112 px, on Flickr8k.

python tools/train.py configs/maskclip/ablations/vitt16_flickr8k_without_mlm.py

Measured on 2026-11-22, two cores, bfloat16, seed 0, on the 1,000 dev images: image to text R@1/5/10 2.0/7.2/11.1, text
to image 1.6/5.6/9.6 %; 1.32 s per step, 950 steps. More in docs/results.md.
"""

_base_ = '../vitt16_flickr8k_cvpr.py'

model = dict(objectives=dict(mlm=None))
