"""Zero-shot on CLEVR, number of objects, val split: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/clevr_counts.py CHECKPOINT --model CONFIG

Classes are sorted as text: 10, 3, 4, ..; VTAB's labels are the number less 3. Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    clevr_counts=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/CLEVRClassification', root=_base_.data_root, split='val'),
            folder=_base_.data_root + '/clevr',
            shards=_base_.data_root + '/wds_vtab-clevr_count_all/test/*.tar',
            classes='clevr_counts',
            num_samples=15000,
            num_classes=8,
            label_order=[10, 3, 4, 5, 6, 7, 8, 9],
            shards_label_order=[7, 0, 1, 2, 3, 4, 5, 6],
            get='torchvision.datasets.CLEVRClassification(root, download=True) gets it.',
        ),
    )
)
test_evaluator = dict(clevr_counts=dict(type='ZeroShotClassification', classes='clevr_counts', metric='top1'))
