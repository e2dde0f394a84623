"""Generated scenes by the read-outs of a tower with one block in one run, and by the mixture of the quickstart.

python tools/test.py configs/region_accuracy/scenes_read_outs_of_one_block.py CHECKPOINT \
    --model configs/maskclip/vitxs8_scenes_local_v1.py

'resclip' and 'self_calibrated' read blocks before the last. Set MMMASKCLIP_SCENES to the folder that holds shards/.
Measured on 2026-11-26, under two CPU minutes: the quickstart's tower and what dense tuning makes of it, see
docs/dense_tune.md.
"""

_base_ = './scenes_every_read_out.py'

_read_outs = [
    *[(name, name) for name in ('patch', 'value', 'qq', 'kk', 'vv', 'csa', 'naclip')],
    ('mixed', [dict(name='patch', weight=3), 'value']),
]
test_evaluator = dict(
    several=[
        dict(type='RetrievalRecall', topk=(1, 5, 10), prefix='retrieval'),
        *[
            dict(type=metric, classes='scenes', prefix=f'{kind}_{name}', read_out=read_out)
            for name, read_out in _read_outs
            for metric, kind in (('ZeroShotSegmentation', 'segmentation'), ('RegionAccuracy', 'regions'))
        ],
    ],
)
