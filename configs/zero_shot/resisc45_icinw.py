"""Zero-shot on RESISC45, the 25,200 test images of CLIP and ICinW: SLIP's prompts, top-1; for ICinW.

python tools/test.py configs/zero_shot/resisc45_icinw.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './resisc45.py'

test_dataloader = dict(
    resisc45=dict(
        dataset=dict(
            source=dict(type='torchvision/ImageFolder', root=_base_.data_root + '/resisc45_icinw/test'),
            folder=_base_.data_root + '/resisc45_icinw/test',
            num_samples=25200,
        )
    )
)
