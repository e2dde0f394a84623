"""MAE (He et al. 2022) alone, with mmpretrain's classes, ViT-B/16, on the images of LAION-20M, 25 epochs.

tools/dist_train.sh configs/mae/vitb16_laion20m.py 32

Published (arXiv 2208.12262v1, Table 4): linear 50.1, fine-tuned 82.7; UperNet ADE20K 44.5. Here: not run at full scale.
The optimizer and its schedule are CLIP's on the same data.
"""

_base_ = ['../clip/vitb16_laion20m.py', '../_base_/objectives/mae.py']

model = dict(
    _delete_=True,
    **_base_.mae,
    backbone=dict(**_base_.mae_encoder, arch='b', img_size=224),
    neck=_base_.mae_decoder_vitb16,
)
# It has no text tower, hence neither schedules of ours nor zero-shot evaluation.
custom_hooks = [dict(type='NonFiniteHook'), dict(type='BadSamplesHook')]
val_cfg = val_dataloader = val_evaluator = test_cfg = test_dataloader = test_evaluator = None
train_cfg = dict(val_interval_iters=None)
