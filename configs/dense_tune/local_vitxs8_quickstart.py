"""Dense tuning of the quickstart's tower on generated scenes: patches pooled by captions.

python tools/train.py configs/dense_tune/local_vitxs8_quickstart.py --cfg-options load_from=WEIGHTS

WEIGHTS is a checkpoint of configs/maskclip/vitxs8_scenes_local_v1.py. All values are ours.

Measured on 2026-11-26, three seeds, one start, 720 + 720 held-out scenes, read-out of the quickstart: segmentation mIoU
36.0 to 41.8 %, regions top-1 56.1 to 60.4 %, pointing 78.7 to 81.1 %, classification top-1 58.1 to 59.4 %, image to
text R@1 29.6 to 31.0 %, text to image R@1 14.3 to 14.9 %. More in docs/dense_tune.md.
"""

_base_ = ['../maskclip/vitxs8_scenes_local_v1.py', './_base_/kept.py']

model = dict(
    **_base_.start,
    objectives=dict(distillation=None, preserve=_base_.preserve),
)
# A quarter of the pretraining's epochs.
train_cfg = dict(max_epochs=2, val_interval=1)
# One point is less than 720 scenes can tell: the standard error of a share of 60 % is 1.8 points.
custom_hooks = [*_base_.custom_hooks, dict(_base_.watch, max_fall=2.0)]
