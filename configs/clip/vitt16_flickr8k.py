"""CLIP, ViT-Ti/16 at 112 px, on Flickr8k: the baseline of configs/maskclip/vitt16_flickr8k*.py for one small machine.

python tools/train.py configs/clip/vitt16_flickr8k.py

Result on the 1,000 dev images: docs/results.md.
"""

_base_ = [
    '../_base_/models/clip_vitt16_112.py',
    '../_base_/datasets/flickr8k.py',
    '../_base_/schedules/adamw_flickr8k.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(type='CheckpointHook', by_epoch=True, interval=1, max_keep_ckpts=2),
)
