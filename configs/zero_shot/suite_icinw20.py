"""The 20 sets of ELEVATER's ICinW, zero-shot.

python tools/test.py configs/zero_shot/suite_icinw20.py CHECKPOINT --model CONFIG

Score: plain mean of the sets' metrics (ELEVATER, arXiv 2204.08790); images are resized bicubically, as
its toolkit does. The published averages are those of UniCL's README (github.com/microsoft/UniCL). Not run.
"""

from mmengine import Config

_base_ = './_base_/task.py'

_files = [
    'caltech101',
    'cifar10',
    'cifar100',
    'country211',
    'dtd',
    'eurosat_icinw',
    'fer2013_icinw',
    'aircraft_icinw',
    'flowers',
    'food101',
    'gtsrb',
    'hateful_memes',
    'kitti_distance_icinw',
    'mnist',
    'pets',
    'patch_camelyon_icinw',
    'rendered_sst2',
    'resisc45_icinw',
    'cars_icinw',
    'voc2007',
]
# mmengine merges no two bases that set the same keys.
test_dataloader, test_evaluator = {}, {}
for _file in _files:
    _task = Config.fromfile('{{ fileDirname }}/' + _file + '.py')
    test_dataloader.update(_task.test_dataloader.to_dict())
    test_evaluator.update(_task.test_evaluator.to_dict())
for _task in test_dataloader.values():
    _task['dataset']['transforms'] = _base_.bicubic
del Config, _file, _files, _task  # what is left is the config

test_cfg = dict(
    _delete_=True,
    type='SuiteLoop',
    suite='suite_icinw20',
    published=[
        dict(name='UniCL, Swin-B, IN-21K + GCC-15M + YFCC-14M', average=43.2, source="UniCL's README"),
        dict(name='UniCL, Focal-B, IN-21K + GCC-15M + YFCC-14M', average=44.0, source="UniCL's README"),
    ],
)
