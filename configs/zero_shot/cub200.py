"""Zero-shot on CUB-200-2011, test split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/cub200.py CHECKPOINT --model CONFIG

SLIP's catalogue calls this split val. Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    cub200=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='mmpretrain.CUB', data_root=_base_.data_root + '/CUB_200_2011', split='test'),
            folder=_base_.data_root + '/CUB_200_2011',
            shards=_base_.data_root + '/wds_cub200/test/*.tar',
            classes='cub200',
            num_samples=5794,
            num_classes=200,
            get='Unpack CUB_200_2011.tgz of https://www.vision.caltech.edu/datasets/cub_200_2011/ there.',
        ),
    )
)
test_evaluator = dict(cub200=dict(type='ZeroShotClassification', classes='cub200', metric='top1'))
