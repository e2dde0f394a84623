"""Dense tuning of the quickstart's tower on generated scenes: patches pooled by captions.

python tools/train.py configs/dense_tune/local_vitxs8_quickstart.py --cfg-options load_from=WEIGHTS

WEIGHTS is a checkpoint of configs/maskclip/vitxs8_scenes_local.py. All values are ours. Not run.
"""

_base_ = ['../maskclip/vitxs8_scenes_local.py', './_base_/kept.py']

model = dict(
    **_base_.start,
    objectives=dict(distillation=None, preserve=_base_.preserve),
)
# A quarter of the pretraining's epochs.
train_cfg = dict(max_epochs=2, val_interval=1)
# One point is less than 720 scenes can tell: the standard error of a share of 60 % is 1.8 points.
custom_hooks = [*_base_.custom_hooks, dict(_base_.watch, max_fall=2.0)]
