"""CLIP, ViT-B/16, LAION-20M, 25 epochs: the baseline of MaskCLIP v1 (arXiv 2208.12262v1, Table 1).

tools/dist_train.sh configs/clip/vitb16_laion20m.py 32

Published: ImageNet zero-shot 40.8, linear 68.2, fine-tuned 82.6; Flickr30K I2T/T2I R@1 56.2/40.1; 14 GB per GPU at 128
images. Here: not run at full scale.
"""

_base_ = [
    '../_base_/models/clip_vitb16_224.py',
    '../_base_/datasets/laion20m.py',
    '../_base_/schedules/adamw_25e.py',
    '../_base_/validation.py',
    '../_base_/default_runtime.py',
]

# A checkpoint to go back to after a divergence, and a validation, about every epoch (of LAION-20M: 4,883 steps), and a
# validation at the end. Saving 2 GB in a thread does not stop the GPUs.
default_hooks = dict(checkpoint=dict(keep_every=5000, async_save=True), logger=dict(log_metric_by_epoch=False))
train_cfg = dict(val_interval_iters=5000, val_interval=1000)
