"""The 20 sets of ELEVATER's ICinW, zero-shot.

python tools/test.py configs/zero_shot/suite_icinw20.py CHECKPOINT --model CONFIG

Score: plain mean of the sets' metrics (ELEVATER, arXiv 2204.08790); images are resized bicubically, as
its toolkit does. Published averages: those of UniCL's README (github.com/microsoft/UniCL). Not run.
"""

_base_ = './_base_/task.py'
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks

test_dataloader, test_evaluator = tasks('icinw20', _base_.data_root, resize='bicubic')
test_cfg = dict(
    _delete_=True,
    type='SuiteLoop',
    suite='suite_icinw20',
    published=[
        dict(name='UniCL, Swin-B, IN-21K + GCC-15M + YFCC-14M', average=43.2, source="UniCL's README"),
        dict(name='UniCL, Focal-B, IN-21K + GCC-15M + YFCC-14M', average=44.0, source="UniCL's README"),
    ],
)
