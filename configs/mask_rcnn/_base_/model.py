# Mask R-CNN (He et al. 2017) with mmdet's settings, on a plain ViT-B/16 in place of ResNet-50. As the MaskCLIP
# supplement says: outputs of the blocks 4, 6, 8 and 12 at strides 4, 8, 16 and 32, stochastic depth 0.1. The heads are
# mmdet's, with boxes in float32 whatever the precision of the rest.
model = dict(
    type='mmdet.MaskRCNN',
    data_preprocessor=dict(
        type='mmdet.DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        # A whole number of patches, and of them an even one: the coarsest map has half of them.
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='mmmaskclip.CLIPVisionTransformer',
        arch='ViT-B/16',
        img_size=224,
        drop_path_rate=0.1,
        out_type='featmap',
        out_indices=[3, 5, 7, 11],
        # Of the four outputs it would change only the last.
        final_norm=False,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/maskclip/vitb16_laion20m/iter_122050.pth',
            prefix='image_encoder.',
        ),
    ),
    neck=[
        dict(type='mmseg.Feature2Pyramid', embed_dim=768, norm_cfg=dict(type='SyncBN')),
        dict(type='mmdet.FPN', in_channels=[768] * 4, out_channels=256, num_outs=5),
    ],
    rpn_head=dict(
        type='mmmaskclip.Float32RPNHead',
        in_channels=256,
        feat_channels=256,
        anchor_generator=dict(
            type='mmdet.AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]
        ),
        bbox_coder=dict(type='mmdet.DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[1.0] * 4),
        loss_cls=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True),
        loss_bbox=dict(type='mmdet.L1Loss'),
    ),
    roi_head=dict(
        type='mmdet.StandardRoIHead',
        bbox_roi_extractor=dict(
            type='mmmaskclip.Float32RoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        bbox_head=dict(
            type='mmmaskclip.Float32BBoxHead',
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=80,
            bbox_coder=dict(type='mmdet.DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=False,
            loss_cls=dict(type='mmdet.CrossEntropyLoss'),
            loss_bbox=dict(type='mmdet.L1Loss'),
        ),
        mask_roi_extractor=dict(
            type='mmmaskclip.Float32RoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        mask_head=dict(
            type='mmmaskclip.Float32MaskHead',
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes=80,
            loss_mask=dict(type='mmdet.CrossEntropyLoss', use_mask=True),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='mmdet.MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, match_low_quality=True
            ),
            sampler=dict(type='mmdet.RandomSampler', num=256, pos_fraction=0.5, add_gt_as_proposals=False),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(nms_pre=2000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(
            assigner=dict(
                type='mmdet.MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=True
            ),
            sampler=dict(type='mmdet.RandomSampler', num=512, pos_fraction=0.25, add_gt_as_proposals=True),
            mask_size=28,
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100, mask_thr_binary=0.5),
    ),
)
