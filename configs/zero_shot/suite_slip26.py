"""The 26 sets of SLIP's zero-shot suite, in its order.

python tools/test.py configs/zero_shot/suite_slip26.py CHECKPOINT --model CONFIG

Published averages are of A-CLIP (arXiv 2212.08653), over all 26, and of MaskCLIP v1 (arXiv 2208.12262v1), over 25,
without Hateful Memes. Not run.
"""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('slip26', _base_.data_root)
test_cfg = dict(
    _delete_=True,
    type='SuiteLoop',
    suite='suite_slip26',
    published=[
        dict(name='CLIP, YFCC15M, 25 epochs', average=34.2, source='A-CLIP'),
        dict(name='SLIP, YFCC15M, 25 epochs', average=38.0, source='A-CLIP'),
        dict(name='MaskCLIP, YFCC15M, 25 epochs', average=37.8, source="A-CLIP's reproduction"),
        dict(name='A-CLIP, YFCC15M, 25 epochs', average=39.6, source='A-CLIP'),
        dict(name='CLIP, YFCC15M, 50 epochs', average=36.5, source='A-CLIP'),
        dict(name='SLIP, YFCC15M, 50 epochs', average=39.7, source='A-CLIP'),
        dict(name='A-CLIP, YFCC15M, 50 epochs', average=42.2, source='A-CLIP'),
        dict(name='CLIP, YFCC15M, 100 epochs', average=37.8, source='A-CLIP'),
        dict(name='SLIP, YFCC15M, 100 epochs', average=39.9, source='A-CLIP'),
        dict(name='A-CLIP, YFCC15M, 100 epochs', average=43.8, source='A-CLIP'),
        dict(name='CLIP, LAION-20M, 25 epochs', average=42.7, source='MaskCLIP v1', without=['hateful_memes']),
        dict(name='SLIP, LAION-20M, 25 epochs', average=41.8, source='MaskCLIP v1', without=['hateful_memes']),
        dict(name='MaskCLIP, LAION-20M, 25 epochs', average=45.4, source='MaskCLIP v1', without=['hateful_memes']),
        dict(name='MaskCLIP, LAION-20M, 100 epochs', average=46.5, source='MaskCLIP v1', without=['hateful_memes']),
    ],
)
