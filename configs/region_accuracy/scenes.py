"""Region and pointing accuracy on generated scenes: the mask of every class in an image, 40 classes.

python tools/test.py configs/region_accuracy/scenes.py CHECKPOINT --model configs/maskclip/vitxs16_scenes_v1.py \
    --cfg-options test_evaluator.regions.read_out=naclip

Set MMMASKCLIP_SCENES to the folder that holds shards/. Not run.
"""

_base_ = '../_base_/evaluation_runtime.py'

test_dataloader = dict(
    regions=dict(
        batch_size=72,
        num_workers=0,
        **_base_.in_order,
        dataset=dict(
            type='EvaluationShards',
            urls='{{$MMMASKCLIP_SCENES:data/scenes}}/shards/val-*.tar',
            mask_key='mask.png',
            transforms=[dict(type='torchvision/Resize', size=64)],
        ),
    ),
)
test_evaluator = dict(regions=dict(type='RegionAccuracy', classes='scenes'))
