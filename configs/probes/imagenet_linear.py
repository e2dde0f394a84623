"""Linear probe on ImageNet-1K on features of one pass, for a machine that cannot afford configs/linear_probe.

python tools/test.py configs/probes/imagenet_linear.py CHECKPOINT --model CONFIG

MaskCLIP's recipe (LARS, lr 6.4, batch 16384, 90 epochs) without its crops and flips; what that costs has not been
measured. Reads imagenet/train and imagenet/val, one folder per class, below MMMASKCLIP_EVAL; the features of the
1,281,167 training images are 3.9 GB of float32 at ViT-B's width. For another set in folders change `folder`, `root`,
`classes`, `num_classes` and `num_samples` in both splits. Not run.
"""

_base_ = '../zero_shot/imagenet.py'

test_evaluator = dict(
    imagenet=dict(
        _delete_=True,
        type='LinearClassificationProbe',
        metric='top1',
        train_dataloader=dict(
            batch_size=256,
            num_workers=8,
            dataset=dict(
                **_base_.images,
                source=dict(type='torchvision/ImageFolder', root=_base_.data_root + '/imagenet/train'),
                folder=_base_.data_root + '/imagenet/train',
                classes='imagenet',
                num_samples=1281167,
                num_classes=1000,
                get='One folder per class, named by its WordNet id.',
            ),
        ),
    )
)
