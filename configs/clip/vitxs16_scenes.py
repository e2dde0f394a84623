"""CLIP on generated scenes of coloured shapes, for comparison with configs/maskclip/vitxs16_scenes.py.

python tools/dataset_converters/make_scenes.py data/scenes
python tools/train.py configs/clip/vitxs16_scenes.py

Not run.
"""

_base_ = [
    '../_base_/models/clip_vitxs16_64.py',
    '../_base_/datasets/scenes.py',
    '../_base_/schedules/adamw_scenes.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(by_epoch=True, interval=5, max_keep_ckpts=2))
