"""Zero-shot on UCF101, middle frames of the first test split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/ucf101_frames.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    ucf101_frames=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/ImageFolder', root=_base_.data_root + '/ucf101_frames/val'),
            folder=_base_.data_root + '/ucf101_frames/val',
            shards=_base_.data_root + '/wds_ucf101_frames/test/*.tar',
            classes='ucf101_frames',
            num_samples=3783,
            num_classes=101,
            get="One folder per class (VISSL's create_ucf101_data_files.py).",
        ),
    )
)
test_evaluator = dict(ucf101_frames=dict(type='ZeroShotClassification', classes='ucf101_frames', metric='top1'))
