"""Region and pointing accuracy on 79 images of COCO val2017: boxes and instance masks, 80 classes.

python tools/test.py configs/region_accuracy/coco_tiny.py CHECKPOINT --model CONFIG \
    --cfg-options test_evaluator.regions.read_out=naclip

CLIPSelf's measure (Wu et al., ICLR 2024, Table 1) at 224 px and on few images: numbers compare between models and
read-outs under this config, not with the paper's. Set MMMASKCLIP_DATA to the folder that holds coco_tiny/. Not run.
"""

_base_ = '../_base_/evaluation_runtime.py'

coco = '{{$MMMASKCLIP_DATA:data}}/coco_tiny'
test_dataloader = dict(
    regions=dict(
        batch_size=16,
        num_workers=2,
        **_base_.in_order,
        dataset=dict(
            type='CocoRegions',
            ann_file=coco + '/annotations/instances_val2017.json',
            image_folder=coco + '/val2017',
            size=(224, 224),
            num_samples=79,
        ),
    )
)
test_evaluator = dict(regions=dict(type='RegionAccuracy', classes='coco80', templates='imagenet_80'))
