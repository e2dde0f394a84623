"""Linear probe on ImageNet-1K, ViT-B/16, on the class token in place of the mean of the patches.

tools/dist_train.sh configs/linear_probe/vitb16_in1k_cls.py 8 \
    --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT

For towers whose pretraining used the class token; MAE's own probe is of this form. The rest as in vitb16_in1k.py. Not
run at full scale.
"""

_base_ = './vitb16_in1k.py'

model = dict(
    backbone=dict(out_type='cls_token'),
    neck=dict(_delete_=True, type='mmpretrain.ClsBatchNormNeck', input_features=768),
)
