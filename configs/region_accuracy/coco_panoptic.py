"""Region and pointing accuracy on COCO val2017: boxes, things and stuff of the panoptic masks, 133 classes.

python tools/test.py configs/region_accuracy/coco_panoptic.py CHECKPOINT --model CONFIG \
    --cfg-options test_evaluator.regions.read_out=naclip

The sets and kinds of CLIPSelf's table 1 (Wu et al., ICLR 2024), at 224 px where the paper has 1024, with ImageNet's 80
templates and names as one says them ('brick wall'). Layout: data/coco/val2017, annotations/panoptic_val2017.json and
annotations/panoptic_val2017/*.png, of images.cocodataset.org.
Published: EVA-CLIP's B/16 44.3 top-1 in boxes, 44.7 things, 26.2 stuff; CLIPSelf 69.1, 66.7, 41.7 (DenseVLM, table 1).
Not run.
"""

_base_ = '../_base_/default_runtime.py'

coco = 'data/coco'
test_dataloader = dict(
    regions=dict(
        batch_size=16,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='mmmaskclip.collate_image_text'),
        dataset=dict(
            type='PanopticRegions',
            ann_file=coco + '/annotations/panoptic_val2017.json',
            mask_folder=coco + '/annotations/panoptic_val2017',
            image_folder=coco + '/val2017',
            size=(224, 224),
            num_samples=5000,
        ),
    )
)
test_evaluator = dict(regions=dict(type='RegionAccuracy', templates='imagenet_80'))
test_cfg = dict(type='EvaluationLoop')
