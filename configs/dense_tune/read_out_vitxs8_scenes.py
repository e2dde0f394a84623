"""Dense tuning of CLIP with small patches on generated scenes: the output learns what the read-out 'value' knows.

python tools/train.py configs/dense_tune/read_out_vitxs8_scenes.py --cfg-options load_from=WEIGHTS

WEIGHTS is a checkpoint of configs/clip/vitxs8_scenes.py. All values are ours.

Measured on 2026-11-26, three seeds, one start, 720 + 720 held-out scenes: segmentation mIoU of read-out 'patch' 2.8 to
9.6 %, of 'value' 6.8 to 9.3 %, classification top-1 31.8 to 33.0 %, image to text R@1 14.6 to 16.8 %, text to
image R@1 10.8 to 10.3 %. More in docs/dense_tune.md.
"""

_base_ = ['../clip/vitxs8_scenes.py', './_base_/kept.py']

model = dict(
    # The teacher follows: what the output has learnt makes the read-out better, too. A frozen one taught less here.
    teacher_momentum=0.99,
    objectives=dict(preserve=_base_.preserve, read_out=dict(type='ReadOutDistillation', read_out='value', weight=5.0)),
)
# As in local_vitxs8_scenes.py.
train_cfg = dict(max_epochs=2, val_interval=1)
custom_hooks = [*_base_.custom_hooks, dict(_base_.watch, max_fall=2.0)]
