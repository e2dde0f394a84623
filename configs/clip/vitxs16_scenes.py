"""CLIP on generated scenes of coloured shapes, for comparison with configs/maskclip/vitxs16_scenes_v1.py.

python tools/dataset_converters/make_scenes.py data/scenes
python tools/train.py configs/clip/vitxs16_scenes.py

Measured on 2026-11-22, two cores, seeds 0 and 1, held-out scenes: classification top-1 37.6 %, image to text R@1 17.1
%, text to image R@1 10.4 %, segmentation mIoU 11.3 %. More in docs/results.md.
"""

_base_ = [
    '../_base_/models/clip_vitxs16_64.py',
    '../_base_/datasets/scenes.py',
    '../_base_/schedules/adamw_scenes.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=True, interval=5, max_keep_ckpts=2),
    similarity_maps=dict(
        type='SimilarityMapsHook', words=['red circle', 'blue square', 'green triangle', 'yellow star']
    ),
)
