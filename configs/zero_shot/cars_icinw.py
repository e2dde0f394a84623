"""Zero-shot on Stanford Cars, test split: ICinW's prompts, top-1; for ICinW.

python tools/test.py configs/zero_shot/cars_icinw.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './cars.py'

test_dataloader = dict(
    cars=dict(
        dataset=dict(
            transforms=_base_.bicubic,
            classes='cars_icinw',
        )
    )
)
test_evaluator = dict(cars=dict(classes='cars_icinw'))
