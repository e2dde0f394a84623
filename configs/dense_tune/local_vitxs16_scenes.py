"""Dense tuning of CLIP on generated scenes: patches pooled by captions.

python tools/train.py configs/dense_tune/local_vitxs16_scenes.py --cfg-options load_from=WEIGHTS

WEIGHTS is a checkpoint of configs/clip/vitxs16_scenes.py. All values are ours.

Measured on 2026-11-26, one seed, 400 + 400 held-out scenes: segmentation mIoU 12.6 to 14.2 %, classification
top-1 38.5 to 41.0 %, image to text R@1 26.5 to 28.0 %. More in docs/dense_tune.md.
"""

_base_ = ['../clip/vitxs16_scenes.py', './_base_/kept.py']

model = dict(
    **_base_.start,
    objectives=dict(preserve=_base_.preserve, local=dict(type='TextPooledContrast', reduction='sum')),
)
# A third of the pretraining's epochs, and a lower learning rate: the tower knows the shapes.
train_cfg = dict(max_epochs=4)
optim_wrapper = dict(optimizer=dict(lr=3e-4))
custom_hooks = [*_base_.custom_hooks, _base_.watch]
