# Sizes and data of the checks on 80 images of COCO at 224 px, which are tested on their training images; for the ViT-Ti
# that was trained on Flickr8k. Set MMMASKCLIP_DATA to the folder that holds coco_tiny/.
tiny = dict(
    backbone=dict(
        arch='ViT-Ti/16',
        img_size=112,
        init_cfg=dict(checkpoint='work_dirs/maskclip/vitt16_flickr8k_v1/epoch_10.pth'),
    ),
    neck=[
        dict(type='mmseg.Feature2Pyramid', embed_dim=192, norm_cfg=dict(type='SyncBN')),
        dict(type='mmdet.FPN', in_channels=[192] * 4, out_channels=64, num_outs=5),
    ],
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=250), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=250)),
)
tiny_extractor = dict(out_channels=64)
tiny_mask_head = dict(num_convs=2, in_channels=64, conv_out_channels=64)
tiny_root = '{{$MMMASKCLIP_DATA:data}}/coco_tiny'
# No flips: they only make 80 images harder to memorize.
tiny_train = dict(
    data_root=tiny_root,
    pipeline=[
        dict(type='mmcv.LoadImageFromFile'),
        dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='mmdet.Resize', scale=(224, 224), keep_ratio=True),
        dict(type='mmdet.PackDetInputs'),
    ],
)
tiny_test = dict(
    data_root=tiny_root,
    ann_file='annotations/instances_train2017.json',
    data_prefix=dict(img='train2017/'),
    pipeline=[
        dict(type='mmcv.LoadImageFromFile'),
        dict(type='mmdet.Resize', scale=(224, 224), keep_ratio=True),
        dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='mmdet.PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
    ],
)
