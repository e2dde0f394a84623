"""Dense tuning of CLIP with small patches on generated scenes: patches pooled by captions.

python tools/train.py configs/dense_tune/local_vitxs8_scenes.py --cfg-options load_from=WEIGHTS

WEIGHTS is a checkpoint of configs/clip/vitxs8_scenes.py. All values are ours.

Measured on 2026-11-26, three seeds, one start, 720 + 720 held-out scenes, read-out 'value': segmentation mIoU 6.8 to
13.5 %, regions top-1 18.1 to 28.0 %, classification top-1 31.8 to 30.9 %, image to text R@1 14.6 to 18.2 %, text to
image R@1 10.8 to 10.1 %. More in docs/dense_tune.md.
"""

_base_ = ['../clip/vitxs8_scenes.py', './_base_/kept.py']

model = dict(
    **_base_.start,
    objectives=dict(preserve=_base_.preserve, local=dict(type='TextPooledContrast', reduction='sum')),
)
# A sixth of the pretraining's epochs.
train_cfg = dict(max_epochs=2, val_interval=1)
# One point is less than 720 scenes can tell: the standard error of a share of 60 % is 1.8 points.
custom_hooks = [*_base_.custom_hooks, dict(_base_.watch, max_fall=2.0)]
