"""Zero-shot on FGVC-Aircraft, variants, test split: ICinW's prompts, mean accuracy per class; for ICinW.

python tools/test.py configs/zero_shot/aircraft_icinw.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './aircraft.py'

test_dataloader = dict(
    aircraft=dict(
        dataset=dict(
            transforms=_base_.bicubic,
            classes='aircraft_icinw',
        )
    )
)
test_evaluator = dict(aircraft=dict(classes='aircraft_icinw'))
