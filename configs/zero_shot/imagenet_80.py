"""Zero-shot on ImageNet-1K, val split, with OpenAI's 80 templates: CLIP's own protocol, top-1.

python tools/test.py configs/zero_shot/imagenet_80.py CHECKPOINT --model CONFIG

Not run.
"""

_base_ = './imagenet.py'

test_evaluator = dict(imagenet=dict(templates='imagenet_80'))
