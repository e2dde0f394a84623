"""Zero-shot on EuroSAT, the 5,000 test images of CLIP: SLIP's prompts, top-1; for ICinW.

python tools/test.py configs/zero_shot/eurosat_icinw.py CHECKPOINT --model CONFIG

CLIP drew them itself: as many as in eurosat.py, but other images. CLIP_benchmark's export is another split. Not run.
"""

_base_ = './eurosat.py'

test_dataloader = dict(
    eurosat=dict(
        dataset=dict(
            transforms=_base_.bicubic,
            source=dict(_delete_=True, type='torchvision/ImageFolder', root=_base_.data_root + '/eurosat_icinw/test'),
            folder=_base_.data_root + '/eurosat_icinw/test',
            per_class=None,
            folders=[
                'AnnualCrop',
                'Forest',
                'HerbaceousVegetation',
                'Highway',
                'Industrial',
                'Pasture',
                'PermanentCrop',
                'Residential',
                'River',
                'SeaLake',
            ],
            get="One folder per class, named as EuroSAT's own, with the images of ELEVATER's eurosat_clip, test split.",
        )
    )
)
