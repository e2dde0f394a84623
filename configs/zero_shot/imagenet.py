"""Zero-shot on ImageNet-1K, val split, 7 templates: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/imagenet.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    imagenet=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/ImageFolder', root=_base_.data_root + '/imagenet/val'),
            folder=_base_.data_root + '/imagenet/val',
            shards=_base_.data_root + '/wds_imagenet1k/test/*.tar',
            classes='imagenet',
            num_samples=50000,
            num_classes=1000,
            get='One folder per class, named by its WordNet id.',
        ),
    )
)
test_evaluator = dict(imagenet=dict(type='ZeroShotClassification', classes='imagenet', metric='top1'))
