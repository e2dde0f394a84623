"""Zero-shot on PASCAL VOC2007, test split: ICinW's prompts, 11-point mAP.

python tools/test.py configs/zero_shot/voc2007.py CHECKPOINT --model CONFIG

An image is of every class that it shows, difficult objects included, as in CLIP_benchmark. Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    voc2007=dict(
        **_base_.loader,
        dataset=dict(
            type='LabelledImages',
            transforms=_base_.bicubic,
            source=dict(type='mmpretrain.VOC', data_root=_base_.data_root + '/VOCdevkit/VOC2007', split='test'),
            folder=_base_.data_root + '/VOCdevkit/VOC2007',
            shards=_base_.data_root + '/wds_voc2007_multilabel/test/*.tar',
            classes='voc2007',
            num_samples=4952,
            num_classes=20,
            label_key='npy',
            get="torchvision.datasets.VOCDetection(root, '2007', 'test', download=True) gets it.",
        ),
    )
)
test_evaluator = dict(voc2007=dict(type='ZeroShotClassification', classes='voc2007', metric='map11'))
