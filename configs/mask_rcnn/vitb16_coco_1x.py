"""Mask R-CNN on COCO 2017, 1x schedule, from a ViT-B/16 that MaskCLIP pretrained (CVPR supplement, section B).

tools/dist_train.sh configs/mask_rcnn/vitb16_coco_1x.py 8 \
    --cfg-options model.backbone.init_cfg.checkpoint=PATH

Published box and mask AP: pretrained on LAION-20M (v1, Table 4) MaskCLIP 46.0 and 41.2, CLIP 44.0 and 39.8; on YFCC15M
(CVPR, Table 9) MaskCLIP 45.4 and 40.9, CLIP+MAE 44.5 and 40.4. Batch: 8 processes with 2 images; with another number of
them set train_dataloader.batch_size so that the product is 16. What the paper leaves open is mmdet's: flips, a warm-up
of 500 steps, the heads. Here: not run at full scale.

Positions are interpolated to the padded batch, and the tower attends to padding. So an image's result depends on its
neighbours in the batch. Evaluation therefore takes one image at a time; a larger batch of its loaders changes the AP.
"""

_base_ = ['./_base_/model.py', './_base_/coco.py', './_base_/schedule_1x.py', '../_base_/detection_runtime.py']
custom_imports = dict(imports=['mmmaskclip.models', 'mmmaskclip.models.heads.float32_detection'])

default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1))
