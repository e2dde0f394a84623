"""Zero-shot on Hateful Memes, dev split: SLIP's prompts, ROC-AUC.

python tools/test.py configs/zero_shot/hateful_memes.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    hateful_memes=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='torchvision/ImageFolder', root=_base_.data_root + '/hateful_memes/dev'),
            folder=_base_.data_root + '/hateful_memes/dev',
            shards=_base_.data_root + '/wds_hateful_memes/test/*.tar',
            classes='hateful_memes',
            num_samples=500,
            num_classes=2,
            folders=['0', '1'],
            get='Sort the images of dev.jsonl into the folders 0 and 1 by their label.',
        ),
    )
)
test_evaluator = dict(hateful_memes=dict(type='ZeroShotClassification', classes='hateful_memes', metric='roc_auc'))
