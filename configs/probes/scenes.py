"""Both probes on generated scenes: k-NN on scenes of one object, linear segmentation on scenes of several.

python tools/test.py configs/probes/scenes.py CHECKPOINT --model configs/maskclip/vitxs16_scenes_v1.py

Of each held-out split, the first shard (500 scenes) is what the probe learns from and the second (220) what it is
tested on. Set MMMASKCLIP_SCENES to the folder that holds shards/. To run it while training, put the tasks into
val_dataloader and val_evaluator of that config. Not run.
"""

_base_ = '../_base_/evaluation_runtime.py'

data_root = '{{$MMMASKCLIP_SCENES:data/scenes}}/shards'

single = dict(type='EvaluationShards', label_key='cls', transforms=[dict(type='torchvision/Resize', size=64)])
several = dict(type='EvaluationShards', mask_key='mask.png', transforms=[dict(type='torchvision/Resize', size=64)])
loader = dict(batch_size=72, num_workers=0, **_base_.in_order)

test_dataloader = dict(
    knn=dict(**loader, dataset=dict(**single, urls=data_root + '/single-00001.tar')),
    linear_segmentation=dict(**loader, dataset=dict(**several, urls=data_root + '/val-00001.tar')),
)
test_evaluator = dict(
    knn=dict(
        type='KNNClassification',
        train_dataloader=dict(batch_size=72, dataset=dict(**single, urls=data_root + '/single-00000.tar')),
        # A class has 12 or 13 scenes to learn from.
        k=10,
    ),
    linear_segmentation=dict(
        type='LinearSegmentationProbe',
        train_dataloader=dict(batch_size=72, dataset=dict(**several, urls=data_root + '/val-00000.tar')),
        num_classes=40,
    ),
)
