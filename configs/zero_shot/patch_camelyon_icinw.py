"""Zero-shot on PatchCamelyon, test split: SLIP's prompts, top-1; for ICinW.

python tools/test.py configs/zero_shot/patch_camelyon_icinw.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './patch_camelyon.py'

test_dataloader = dict(
    patch_camelyon=dict(
        dataset=dict(
            transforms=_base_.bicubic,
            source=dict(split='test'),
            shards=_base_.data_root + '/wds_vtab-pcam/test/*.tar',
        )
    )
)
