"""Zero-shot on SUN397, the first test partition: SLIP's prompts, top-1.

python tools/test.py configs/zero_shot/sun397.py CHECKPOINT --model CONFIG

SLIP drew a test split of its own (VISSL's script); this is the partition of CLIP's paper. CLIP_benchmark's export is
all 108,754 images. Not run.
"""

_base_ = './_base_/task.py'

test_dataloader = dict(
    sun397=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.images,
            source=dict(type='mmpretrain.SUN397', data_root=_base_.data_root + '/sun397', split='test'),
            folder=_base_.data_root + '/sun397',
            classes='sun397',
            num_samples=19850,
            num_classes=397,
            get=(
                'Unpack SUN397.tar.gz (to SUN397/) and Partitions.zip (to Partitions/) of '
                'https://vision.princeton.edu/projects/2010/SUN/ there.'
            ),
        ),
    )
)
test_evaluator = dict(sun397=dict(type='ZeroShotClassification', classes='sun397', metric='top1'))
