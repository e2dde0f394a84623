"""Pascal Context, 59 classes, 5,104 or 5,105 validation images, under TIPS's protocol.

python tools/test.py configs/zero_shot_seg/context59_tips.py CKPT --model CONFIG_OF_CKPT

Not run.
"""

_base_ = ['./_base_/tips.py', './_base_/sets/context.py']

test_dataloader = dict(segmentation=dict(dataset=dict(type='mmseg.PascalContextDataset59', **_base_.images)))
test_cfg = dict(num_images=_base_.num_images)
