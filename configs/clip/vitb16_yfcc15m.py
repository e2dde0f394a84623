"""CLIP, ViT-B/16, YFCC15M, 25 epochs, lr 5e-4, weight decay 0.5: SLIP's recipe, MaskCLIP's baseline.

tools/dist_train.sh configs/clip/vitb16_yfcc15m.py 32

Published: ImageNet zero-shot 37.6, linear 66.5, fine-tuned 80.5 (SLIP); Flickr30K I2T/T2I R@1 52.9/32.8 (MaskCLIP).
Here: not run at full scale.
"""

_base_ = [
    '../_base_/models/clip_vitb16_224.py',
    '../_base_/datasets/yfcc15m.py',
    '../_base_/schedules/adamw_25e.py',
    '../_base_/validation.py',
    '../_base_/default_runtime.py',
]

# A checkpoint to go back to after a divergence, and a validation, about every epoch (of LAION-20M: 4,883 steps), and a
# validation at the end. Saving 2 GB in a thread does not stop the GPUs.
default_hooks = dict(checkpoint=dict(keep_every=5000, async_save=True), logger=dict(log_metric_by_epoch=False))
train_cfg = dict(val_interval_iters=5000, val_interval=1000)
