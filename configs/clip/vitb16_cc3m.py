"""CLIP, ViT-B/16, CC3M: a baseline of MaskCLIP's supplement.

tools/dist_train.sh configs/clip/vitb16_cc3m.py 32

Published: ImageNet zero-shot 17.1, linear 53.3, fine-tuned 79.5 (SLIP, 40 epochs; MaskCLIP's supplement copies 78.5 for
the last). Here: not run at full scale. 25 epochs, which the supplement says of all experiments.
"""

_base_ = [
    '../_base_/models/clip_vitb16_224.py',
    '../_base_/datasets/cc3m.py',
    '../_base_/schedules/adamw_25e.py',
    '../_base_/validation.py',
    '../_base_/default_runtime.py',
]

# A checkpoint to go back to after a divergence, and a validation, about every epoch (of LAION-20M: 4,883 steps), and a
# validation at the end. Saving 2 GB in a thread does not stop the GPUs.
default_hooks = dict(checkpoint=dict(keep_every=5000, async_save=True), logger=dict(log_metric_by_epoch=False))
train_cfg = dict(val_interval_iters=5000, val_interval=1000)
