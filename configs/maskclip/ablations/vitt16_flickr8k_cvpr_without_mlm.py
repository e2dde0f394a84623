"""Ablation of MaskCLIP (CVPR) without its text branch, ViT-Ti/16 at 112 px, on Flickr8k.

python tools/train.py configs/maskclip/ablations/vitt16_flickr8k_cvpr_without_mlm.py

Not run in this form; docs/results.md has a run of before the codewords' head got its present start and momentum.
"""

_base_ = '../vitt16_flickr8k_cvpr.py'

model = dict(objectives=dict(mlm=None))
