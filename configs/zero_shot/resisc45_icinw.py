"""Zero-shot on RESISC45, the 25,200 test images of CLIP and ICinW: SLIP's prompts, top-1; for ICinW.

python tools/test.py configs/zero_shot/resisc45_icinw.py CHECKPOINT --model CONFIG

CLIP_benchmark's export is VTAB's test split, 6,300. Not run.
"""

_base_ = './resisc45.py'

test_dataloader = dict(
    resisc45=dict(
        dataset=dict(
            transforms=_base_.bicubic,
            source=dict(type='torchvision/ImageFolder', root=_base_.data_root + '/resisc45_icinw/test'),
            folder=_base_.data_root + '/resisc45_icinw/test',
            shards=None,
            get="NWPU-RESISC45: one folder per class, with the images of ELEVATER's resisc45_clip, test split.",
            num_samples=25200,
        )
    )
)
