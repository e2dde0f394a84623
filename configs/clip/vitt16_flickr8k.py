"""CLIP, ViT-Ti/16 at 112 px, on Flickr8k: the baseline of configs/maskclip/vitt16_flickr8k*.py for one small machine.

python tools/train.py configs/clip/vitt16_flickr8k.py

Measured on 2026-11-22, two cores, bfloat16, seed 0, on the 1,000 dev images: image to text R@1/5/10 2.0/6.5/9.7, text
to image 1.3/5.1/9.5 %; 0.85 s per step, 950 steps. More in docs/results.md.
"""

_base_ = [
    '../_base_/models/clip_vitt16_112.py',
    '../_base_/datasets/flickr8k.py',
    '../_base_/schedules/adamw_flickr8k.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(type='ReliableCheckpointHook', by_epoch=True, interval=1, max_keep_ckpts=2),
    similarity_maps=dict(type='SimilarityMapsHook', words=['dog', 'person', 'grass', 'water']),
)
