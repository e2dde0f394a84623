"""Open-vocabulary Mask R-CNN on 80 images of COCO at 224 px, from a ViT-Ti/16, tested on its TRAINING images.

python tools/train.py configs/ov_mask_rcnn/vitt16_coco_tiny.py

A check that it learns, not a benchmark. Sizes and schedule are ours.
Measured on 2026-11-23, one core, 22 minutes beside other work, from a MaskCLIP v1 of Flickr8k: loss 25.4 to 1.4, box AP
of the base classes, whose boxes it has seen, 9.0 (AP50 14.9); of the novel ones, of which it knows only the names, 0.0.
"""

_base_ = ['./vitb16_coco_48_17.py', '../mask_rcnn/_base_/coco_tiny.py']

model = dict(
    **_base_.tiny,
    roi_head=dict(
        bbox_roi_extractor=_base_.tiny_extractor,
        bbox_head=dict(
            in_channels=64,
            fc_out_channels=256,
            cls_predictor_cfg=dict(
                text=dict(
                    encoder=dict(width=256, num_layers=6, num_heads=4),
                    projection=dict(in_channels=256, embed_dims=256),
                    checkpoint='work_dirs/maskclip/vitt16_flickr8k_v1/epoch_10.pth',
                ),
            ),
        ),
        mask_roi_extractor=_base_.tiny_extractor,
        mask_head=_base_.tiny_mask_head,
    ),
)
train_dataloader = dict(batch_size=2, dataset=_base_.tiny_train)
test_dataloader = val_dataloader = dict(dataset=_base_.tiny_test)
test_evaluator = val_evaluator = dict(ann_file=_base_.tiny_root + '/annotations/instances_train2017.json')

optim_wrapper = dict(optimizer=dict(lr=3e-4))
train_cfg = dict(max_epochs=40, val_interval=20)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, begin=0, milestones=[27, 36], gamma=0.1),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(by_epoch=True, interval=20))
