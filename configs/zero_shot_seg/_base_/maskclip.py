# MaskCLIP's protocol (arXiv v1, section 4): one scale, windows of 224 every 112 px, 85 templates, no background. Like
# Zhou et al., whose evaluation it follows, images keep their aspect ratio and are resized by their shorter side.
_base_ = ['../../_base_/models/clip_vitb16_224.py', '../../_base_/default_runtime.py']

custom_imports = dict(
    imports=['mmmaskclip.datasets.evaluation.segmentation_sets', 'mmmaskclip.evaluation.checked_iou_metric']
)

pipeline = [
    dict(type='mmseg.LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=(2048, 512), keep_ratio=True),
    # After the resize: masks keep their size, and predictions are brought to it.
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
test_dataloader = dict(
    segmentation=dict(
        batch_size=1,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(pipeline=pipeline, test_mode=True),
    )
)
test_evaluator = dict(segmentation=dict(type='CheckedIoUMetric', iou_metrics=['mIoU'], collect_device='gpu'))
# read_out='value' is Zhou et al.'s; MaskCLIP's paper does not say which one it used.
test_cfg = dict(
    type='ZeroShotSegmentationLoop',
    segmentor=dict(
        templates='scenes_85',
        read_out='patch',
        test_cfg=dict(mode='slide', crop_size=(224, 224), stride=(112, 112)),
    ),
)
