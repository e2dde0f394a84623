"""Zero-shot on FER2013, public and private test images: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/fer2013.py CHECKPOINT --model CONFIG

Classes are sorted by name; in Kaggle's file, neutral is the last. SLIP does not say which of the two test splits it
took; both together are CLIP_benchmark's. Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    fer2013=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/FER2013', root=_base_.data_root, split='test'),
            folder=_base_.data_root + '/fer2013',
            shards=_base_.data_root + '/wds_fer2013/test/*.tar',
            classes='fer2013',
            num_samples=7178,
            num_classes=7,
            label_order=[0, 1, 2, 3, 6, 4, 5],
            get='Put fer2013.csv or icml_face_data.csv of Kaggle there.',
        ),
    )
)
test_evaluator = dict(fer2013=dict(type='ZeroShotClassification', classes='fer2013', metric='top1'))
