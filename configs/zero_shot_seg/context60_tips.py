"""Pascal Context, 59 classes and background, 5,104 or 5,105 validation images, under TIPS's protocol.

python tools/test.py configs/zero_shot_seg/context60_tips.py CKPT --model CONFIG_OF_CKPT

The threshold is TCL's.
Not run.
"""

_base_ = ['./_base_/tips.py', './_base_/sets/context.py']

test_dataloader = dict(segmentation=dict(dataset=dict(type='mmseg.PascalContextDataset', **_base_.images)))
test_cfg = dict(num_images=_base_.num_images, segmentor=dict(background_threshold=0.5))
