"""As vitb16_coco_1x.py, with attention in windows of 14 x 14 patches but for the blocks 3, 6, 9 and 12.

tools/dist_train.sh configs/mask_rcnn/vitb16_coco_1x_windows.py 8 \
    --cfg-options model.backbone.init_cfg.checkpoint=PATH

It saves time, not memory: what it saves, and what it costs, is in docs/downstream.md. Windows and their blocks are
those of ViTDet (Li et al. 2022); 14 x 14 patches are the image of the pretraining. Not in the paper; here: not run at
full scale.
"""

_base_ = './vitb16_coco_1x.py'

model = dict(backbone=dict(window_size=14, global_blocks=(2, 5, 8, 11)))
