"""Generated scenes by nine read-outs in one run: segmentation, regions, pointing, and what no read-out changes.

python tools/test.py configs/region_accuracy/scenes_every_read_out.py CHECKPOINT --model configs/clip/vitxs8_scenes.py

What no read-out changes is retrieval, and classification of scenes with one object. Set MMMASKCLIP_SCENES to the folder
that holds shards/. Measured on 2026-11-26, 1.5 CPU minutes: plain CLIP and what dense tuning makes of it, see
docs/dense_tune.md.
"""

_base_ = '../_base_/evaluation_runtime.py'

_loader = dict(batch_size=72, num_workers=0, **_base_.in_order)
_scenes = dict(type='EvaluationShards', transforms=[dict(type='torchvision/Resize', size=64)])
_root = '{{$MMMASKCLIP_SCENES:data/scenes}}/shards'
test_dataloader = dict(
    several=dict(
        **_loader,
        dataset=dict(**_scenes, urls=_root + '/val-*.tar', caption_key='json:captions', mask_key='mask.png'),
    ),
    single=dict(**_loader, dataset=dict(**_scenes, urls=_root + '/single-*.tar', label_key='cls')),
)
_read_outs = ['patch', 'value', 'qq', 'kk', 'vv', 'csa', 'naclip', 'resclip', 'self_calibrated']
test_evaluator = dict(
    several=[
        dict(type='RetrievalRecall', topk=(1, 5, 10), prefix='retrieval'),
        *[
            dict(type=metric, classes='scenes', prefix=f'{name}_{read_out}', read_out=read_out)
            for read_out in _read_outs
            for metric, name in (('ZeroShotSegmentation', 'segmentation'), ('RegionAccuracy', 'regions'))
        ],
    ],
    single=dict(type='ZeroShotClassification', classes='scenes', prefix='classification'),
)
