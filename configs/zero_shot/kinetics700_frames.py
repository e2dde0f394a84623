"""Zero-shot on Kinetics-700, frames of the val split: SLIP's prompts, mean of top-1 and top-5.

python tools/test.py configs/zero_shot/kinetics700_frames.py CHECKPOINT --model CONFIG

Videos vanish from the web, so the number of samples is not checked. Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    kinetics700_frames=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/ImageFolder', root=_base_.data_root + '/kinetics700_frames/val_images'),
            folder=_base_.data_root + '/kinetics700_frames/val_images',
            shards=_base_.data_root + '/wds_kinetics700_frames/test/*.tar',
            classes='kinetics700_frames',
            num_classes=700,
            get="One folder per class (VISSL's create_k700_data_files.py).",
        ),
    )
)
test_evaluator = dict(
    kinetics700_frames=dict(type='ZeroShotClassification', classes='kinetics700_frames', metric='mean_top1_top5')
)
